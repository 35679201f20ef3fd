//! One question to the registry: auth, redirects, the meaning of the answer, tries.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use credential::auth::{AuthError, AuthScheme, AuthSource, RegistryAuth, Rejection};
use dial::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue, RANGE};
use dial::{DialError, Dialer, HttpClient, Method, Request, Response, Url};
use tokio::sync::OnceCell;

use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::follow::{self, Landed, Lead, Outgoing};
use crate::location::Locations;
use crate::pull_limit::{Known, PullLimit};
use crate::refusal::{self, Refusal};
use crate::retry::{Attempts, RetryPolicy};
use crate::session::Session;
use crate::stats::Counters;

/// Of an error's body, this much is read. Registries' own are below 1 KiB; proxies send pages.
const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;

/// A registry as everything in this crate speaks to it.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) name: String,
    pub(crate) http: HttpClient,
    pub(crate) counters: Counters,
    pub(crate) locations: Locations,
    pub(crate) retry: RetryPolicy,
    endpoint: Endpoint,
    pub(crate) session: Session,
    pub(crate) asks_for_locations: bool,
    base: OnceCell<Url>,
    pull_limit: Mutex<Known>,
}

/// One question.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// From `/v2/` on.
    pub(crate) path: String,
    pub(crate) repository: &'a str,
    pub(crate) accept: Option<&'static str>,
    /// First and last byte.
    pub(crate) range: Option<(u64, u64)>,
    /// What an error calls it.
    pub(crate) subject: String,
}

impl Core {
    pub(crate) fn new(
        dialer: &Dialer,
        endpoint: Endpoint,
        source: Arc<dyn AuthSource>,
        retry: RetryPolicy,
    ) -> Result<Self, RegistryError> {
        let name = endpoint.registry.as_str();
        let http = endpoint.http_client(dialer);
        Ok(Self {
            http: http.map_err(|error| RegistryError::from_dial(name, &error))?,
            name: name.to_owned(),
            counters: Counters::default(),
            locations: Locations::default(),
            retry,
            session: Session::new(endpoint.registry.clone(), source),
            asks_for_locations: false,
            endpoint,
            base: OnceCell::new(),
            pull_limit: Mutex::default(),
        })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The registry's origin. For a loopback registry that nothing was said about, https is tried
    /// first, and plain http when nothing there speaks TLS.
    pub(crate) async fn base(&self) -> Result<&Url, RegistryError> {
        self.base.get_or_try_init(|| self.find_base()).await
    }

    async fn find_base(&self) -> Result<Url, RegistryError> {
        let url = |scheme: &str| {
            Url::parse(&format!(
                "{scheme}://{}/",
                self.endpoint.registry.endpoint()
            ))
            .map_err(|_| self.protocol("its name makes no URL"))
        };
        if self.endpoint.plain_http {
            return url("http");
        }
        if !self.endpoint.scheme_is_open() {
            return url("https");
        }
        let probe = |base: Url| async move {
            let mut target = base.clone();
            target.set_path("/v2/");
            self.http
                .send(Request::get(target))
                .await
                .map(|response| (base, response.status))
        };
        match probe(url("https")?).await {
            Ok((base, _)) => Ok(base),
            Err(DialError::NotTls { .. } | DialError::Unreachable { .. }) => {
                match probe(url("http")?).await {
                    // What a server with TLS says to plain http: its handshake failed for now.
                    Ok((_, status)) if status.as_u16() == 400 => Err(self.not_ready()),
                    Ok((base, _)) => Ok(base),
                    Err(error) => Err(RegistryError::from_dial(&self.name, &error)),
                }
            }
            // A certificate that is not trusted is still TLS.
            Err(_) => url("https"),
        }
    }

    fn not_ready(&self) -> RegistryError {
        let message = "it speaks TLS and did not finish the handshake".to_owned();
        RegistryError::Unreachable {
            registry: self.name.clone(),
            message,
        }
    }

    /// What the registry said last of the pulls that it allows.
    pub(crate) fn pull_limit(&self) -> Option<PullLimit> {
        lock(&self.pull_limit).last.clone()
    }

    /// Notes what is said with a manifest. That few are left is told once in a window.
    pub(crate) fn note_pull_limit(&self, landed: &Landed) {
        let said = PullLimit::read(&landed.response.headers);
        let Some(limit) = said.filter(|_| !landed.foreign) else {
            return;
        };
        let shown = limit.to_string();
        if lock(&self.pull_limit).note(limit, Instant::now()) {
            tracing::warn!("{} will soon limit pulls: {shown}", self.name);
        }
    }

    /// Asks, and asks again while it is worth it.
    pub(crate) async fn exchange(&self, call: &Call<'_>) -> Result<Landed, RegistryError> {
        let mut attempts = Attempts::new(self.retry);
        loop {
            match self.attempt(call).await {
                Ok(landed) => return Ok(landed),
                Err(error) => self.pause_after(&mut attempts, error).await?,
            }
        }
    }

    /// Waits before the next try, or gives the error back when there shall be none.
    pub(crate) async fn pause_after(
        &self,
        attempts: &mut Attempts,
        error: RegistryError,
    ) -> Result<(), RegistryError> {
        attempts.pause_after(error).await?;
        self.counters.count_retry();
        Ok(())
    }

    /// Asks once; when the auth is refused, renews it and asks once more.
    pub(crate) async fn attempt(&self, call: &Call<'_>) -> Result<Landed, RegistryError> {
        let auth = self.session.current(call.repository).await?;
        let refusal = match self.ask(call, &auth).await? {
            Ok(landed) => return Ok(landed),
            Err(refusal) => refusal,
        };
        let renewed = self.renewed(call, &auth, &refusal).await?;
        let again = self.ask(call, &renewed).await?;
        again.map_err(|refusal| self.verdict(call, &renewed, &refusal))
    }

    /// The same for where a blob's bytes are, instead of for them.
    pub(crate) async fn attempt_lead(&self, call: &Call<'_>) -> Result<Lead, RegistryError> {
        let auth = self.session.current(call.repository).await?;
        let refusal = match self.ask_lead(call, &auth).await? {
            Ok(lead) => return Ok(lead),
            Err(refusal) => refusal,
        };
        let renewed = self.renewed(call, &auth, &refusal).await?;
        let again = self.ask_lead(call, &renewed).await?;
        again.map_err(|refusal| self.verdict(call, &renewed, &refusal))
    }

    /// Another auth than the one that was refused, where that may help.
    async fn renewed(
        &self,
        call: &Call<'_>,
        auth: &RegistryAuth,
        refusal: &Refusal,
    ) -> Result<RegistryAuth, RegistryError> {
        if !refusal.is_about(auth) {
            return Err(self.verdict(call, auth, refusal));
        }
        let rejection = Rejection {
            serial: auth.serial,
            status: refusal.status,
            challenges: refusal.challenges.clone(),
            says_expired: refusal.says_expired(),
            is_hearsay: false,
        };
        let renewed = self.session.renewed(call.repository, rejection).await?;
        if is_same(&renewed, auth) {
            return Err(self.verdict(call, auth, refusal));
        }
        Ok(renewed)
    }

    async fn ask(
        &self,
        call: &Call<'_>,
        auth: &RegistryAuth,
    ) -> Result<Result<Landed, Refusal>, RegistryError> {
        let headers = call.headers();
        let outgoing = self.outgoing(call, &headers, auth).await?;
        let landed = follow::follow(&self.http, &self.counters, outgoing).await?;
        if landed.response.status.is_success() {
            return Ok(Ok(landed));
        }
        Ok(Err(self.refusal(landed, &auth.scheme).await))
    }

    async fn ask_lead(
        &self,
        call: &Call<'_>,
        auth: &RegistryAuth,
    ) -> Result<Result<Lead, Refusal>, RegistryError> {
        let headers = call.headers();
        let outgoing = self.outgoing(call, &headers, auth).await?;
        match follow::lead(&self.http, &self.counters, outgoing).await? {
            Lead::Here(landed) if !landed.response.status.is_success() => {
                Ok(Err(self.refusal(*landed, &auth.scheme).await))
            }
            lead => Ok(Ok(lead)),
        }
    }

    async fn outgoing<'a>(
        &'a self,
        call: &Call<'_>,
        headers: &'a HeaderMap,
        auth: &RegistryAuth,
    ) -> Result<Outgoing<'a>, RegistryError> {
        let url = self.base().await?.join(&call.path);
        Ok(Outgoing {
            registry: &self.name,
            method: call.method.clone(),
            url: url.map_err(|_| self.protocol("no such path"))?,
            headers,
            authorization: follow::authorization(&self.name, &auth.scheme)?,
        })
    }

    async fn refusal(&self, landed: Landed, scheme: &AuthScheme) -> Refusal {
        let Landed {
            response, foreign, ..
        } = landed;
        Refusal {
            status: response.status.as_u16(),
            // A challenge of another host is not the registry's.
            challenges: if foreign {
                Vec::new()
            } else {
                refusal::challenges(&response)
            },
            retry_after: response.retry_after(),
            text: self.error_text(response, scheme).await,
            foreign,
        }
    }

    /// An answer that says "later", whatever was asked.
    pub(crate) fn busy(&self, response: &Response) -> Option<RegistryError> {
        let registry = self.name.clone();
        match response.status.as_u16() {
            429 => Some(RegistryError::RateLimited {
                registry,
                retry_after: response.retry_after(),
            }),
            status @ (408 | 500 | 502..=504) => {
                let message = format!("status {status}");
                Some(RegistryError::Unreachable { registry, message })
            }
            _ => None,
        }
    }

    /// What a reply says in words, fit to be shown.
    pub(crate) async fn error_text(&self, response: Response, scheme: &AuthScheme) -> String {
        // The status says what matters; a body that cannot be read says nothing more.
        let body = response
            .read_bounded(MAX_ERROR_BODY_BYTES)
            .await
            .unwrap_or_default();
        self.counters.count_bytes(body.len());
        refusal::shown_text(&body, scheme)
    }

    /// What a refusal means to the caller.
    fn verdict(&self, call: &Call<'_>, auth: &RegistryAuth, refusal: &Refusal) -> RegistryError {
        let subject = call.subject.clone();
        let registry = self.name.clone();
        if refusal.foreign {
            return self.storage_verdict(refusal.status, refusal.retry_after);
        }
        match refusal.status {
            401 if !refusal.says("insufficient_scope") => {
                RegistryError::Auth(AuthError::BadCredential {
                    message: self.refused_login(auth, refusal),
                })
            }
            status @ (401 | 403) => {
                let message = refusal.message("the credential may not pull it");
                RegistryError::Denied {
                    subject,
                    status,
                    message,
                }
            }
            404 => RegistryError::NotFound { subject },
            416 => RegistryError::Corrupt {
                subject,
                message: "the registry holds fewer bytes than the manifest says".to_owned(),
            },
            429 => RegistryError::RateLimited {
                registry,
                retry_after: refusal.retry_after,
            },
            408 | 500 | 502..=504 => RegistryError::Unreachable {
                registry,
                message: format!(
                    "status {}, {}",
                    refusal.status,
                    refusal.message("no reason")
                ),
            },
            status => RegistryError::Protocol {
                registry,
                message: format!("status {status}, {}", refusal.message("no reason given")),
            },
        }
    }

    /// The storage behind the registry refuses: signed URLs die, and the next one may live.
    pub(crate) fn storage_verdict(
        &self,
        status: u16,
        retry_after: Option<Duration>,
    ) -> RegistryError {
        let registry = self.name.clone();
        if status == 429 {
            return RegistryError::RateLimited {
                registry,
                retry_after,
            };
        }
        let message = format!("the storage behind it answered with status {status}");
        RegistryError::Unreachable { registry, message }
    }

    fn refused_login(&self, auth: &RegistryAuth, refusal: &Refusal) -> String {
        match auth.scheme {
            AuthScheme::Anonymous => {
                format!("{} wants a credential and none is given", self.name)
            }
            _ => format!(
                "{} refused the credential: {}",
                self.name,
                refusal.message("no reason given")
            ),
        }
    }

    pub(crate) fn protocol(&self, message: &str) -> RegistryError {
        RegistryError::Protocol {
            registry: self.name.clone(),
            message: message.to_owned(),
        }
    }
}

impl Call<'_> {
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(accept) = self.accept {
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        // Bytes are compared with digests and ranges of the stored form.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some((first, last)) = self.range {
            let value = HeaderValue::from_str(&format!("bytes={first}-{last}"))
                .expect("numbers make a header value");
            headers.insert(RANGE, value);
        }
        headers
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_same(one: &RegistryAuth, other: &RegistryAuth) -> bool {
    let kind = |auth: &RegistryAuth| std::mem::discriminant(&auth.scheme);
    one.serial == other.serial && kind(one) == kind(other)
}
