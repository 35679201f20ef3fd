//! The dialer and its clients: one pool of connections for each distinct profile.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use url::{Host, Url};

use crate::address::is_loopback_host;
use crate::error::DialError;
use crate::limits::{self, Limits};
use crate::policy::{AddressPolicy, DialPolicy, Judge};
use crate::proxy;
use crate::request::Request;
use crate::resolver::{Names, PolicyResolver, of_the_system, resolve_judged};
use crate::response::Response;
use crate::tls::{TlsProfile, client_config, plain_config};

/// Makes clients under one operator's policy. Clones share it and its connections.
#[derive(Clone)]
pub struct Dialer(Arc<Inner>);

struct Inner {
    policy: DialPolicy,
    names: Names,
    clients: Mutex<HashMap<(TlsProfile, AddressPolicy), HttpClient>>,
    /// Where metadata services are, if a test has them elsewhere.
    metadata_at: Option<Url>,
}

impl Dialer {
    pub fn new(policy: DialPolicy) -> Self {
        Self::knowing(policy, of_the_system())
    }

    /// The same, where names lead to what `names` says. Their addresses are judged like others.
    #[cfg(feature = "names")]
    pub fn with_names(
        policy: DialPolicy,
        names: impl Fn(&str) -> Option<Vec<std::net::IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self::knowing(policy, Arc::new(names))
    }

    /// The same, where all metadata services of clouds are at this URL, whose host is an address.
    #[cfg(feature = "names")]
    pub fn with_metadata_at(policy: DialPolicy, elsewhere: Url) -> Self {
        Self(Arc::new(Inner {
            policy,
            names: of_the_system(),
            clients: Mutex::new(HashMap::new()),
            metadata_at: Some(elsewhere),
        }))
    }

    pub(crate) fn metadata_at(&self) -> Option<&Url> {
        self.0.metadata_at.as_ref()
    }

    pub(crate) fn knowing(policy: DialPolicy, names: Names) -> Self {
        Self(Arc::new(Inner {
            policy,
            names,
            clients: Mutex::new(HashMap::new()),
            metadata_at: None,
        }))
    }

    /// The operator's policy.
    pub fn policy(&self) -> &DialPolicy {
        &self.0.policy
    }

    /// The client for a registry. The same profile gives the same client, hence its connections.
    pub fn client(
        &self,
        tls: &TlsProfile,
        addresses: &AddressPolicy,
    ) -> Result<HttpClient, DialError> {
        let key = (tls.clone(), addresses.clone());
        let mut clients = self
            .0
            .clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = HttpClient::build(&self.0, tls, addresses)?;
        if clients.len() >= limits::MAX_CLIENTS {
            // Clients in use live on in their holders; what is lost is only the sharing.
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Dialer")
            .field("policy", &self.0.policy)
            .finish_non_exhaustive()
    }
}

/// Sends single requests for one registry, its token service and what they point to.
#[derive(Clone)]
pub struct HttpClient(Arc<Profile>);

struct Profile {
    judge: Arc<Judge>,
    names: Names,
    tls: TlsProfile,
    limits: Limits,
    matcher: Matcher,
    http: reqwest::Client,
    /// Made when it is first needed: what speaks plain http, or to nobody, reads no roots.
    https: OnceLock<reqwest::Client>,
    http_proxied: OnceLock<reqwest::Client>,
    https_proxied: OnceLock<reqwest::Client>,
}

impl HttpClient {
    fn build(
        dialer: &Inner,
        tls: &TlsProfile,
        addresses: &AddressPolicy,
    ) -> Result<Self, DialError> {
        let policy = &dialer.policy;
        let resolver = PolicyResolver {
            judge: Arc::new(Judge::new(policy, addresses)),
            names: Arc::clone(&dialer.names),
        };
        let (judge, names) = (Arc::clone(&resolver.judge), Arc::clone(&resolver.names));
        let http = direct_client(&plain_config(tls)?, policy.limits, resolver)?;
        Ok(Self(Arc::new(Profile {
            judge,
            names,
            tls: tls.clone(),
            limits: policy.limits,
            matcher: policy.proxies.matcher(),
            http,
            https: OnceLock::new(),
            http_proxied: OnceLock::new(),
            https_proxied: OnceLock::new(),
        })))
    }

    /// Sends one request and returns whatever reply comes, redirects included.
    pub async fn send(&self, request: Request) -> Result<Response, DialError> {
        let host = shown_host(&request.url);
        self.check(&request.url, &host)?;
        let client = self.client_for(&request.url).await?;
        let mut built = reqwest::Request::new(request.method, request.url);
        *built.headers_mut() = request.headers;
        if !request.body.is_empty() {
            *built.body_mut() = Some(request.body.into());
        }
        let limits = self.0.limits;
        let reply = match tokio::time::timeout(limits.head, client.execute(built)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => return Err(DialError::from_http(&host, &error, false)),
            Err(_) => {
                let message = format!("no reply within {:?}", limits.head);
                return Err(DialError::Unreachable { host, message });
            }
        };
        check_head(&reply, &host)?;
        Ok(Response::new(reply, host, limits))
    }

    /// What can be said before any name is resolved.
    fn check(&self, url: &Url, host: &str) -> Result<(), DialError> {
        match url.scheme() {
            "https" => {}
            "http" if self.0.tls.plain_http || is_loopback_host(url.host_str().unwrap_or("")) => {}
            "http" => {
                return Err(DialError::PlainHttp {
                    host: host.to_owned(),
                });
            }
            _ => return Err(unusable(host, "neither http nor https")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(unusable(host, "the URL holds a user name or password"));
        }
        match url.host() {
            Some(Host::Ipv4(address)) => self.0.judge.admit(host, address.into()),
            Some(Host::Ipv6(address)) => self.0.judge.admit(host, address.into()),
            Some(Host::Domain(_)) => Ok(()),
            None => Err(unusable(host, "the URL has no host")),
        }
    }

    /// The direct client, or the one behind the proxy that the operator chose for this URL.
    async fn client_for(&self, url: &Url) -> Result<&reqwest::Client, DialError> {
        let Some(intercept) = proxy::intercept(&self.0.matcher, url) else {
            return self.direct(url);
        };
        if let Some(Host::Domain(name)) = url.host() {
            // Behind a proxy, names often do not resolve here; then the proxy decides.
            let judged = resolve_judged(&self.0.judge, &self.0.names, name).await;
            if let Err(error @ DialError::Denied { .. }) = judged {
                return Err(error);
            }
        }
        let slot = match url.scheme() {
            "http" => &self.0.http_proxied,
            _ => &self.0.https_proxied,
        };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let (proxy, resolver) = proxy::through(&intercept)?;
        let client = base_client(&client_config(&self.0.tls)?, self.0.limits)
            .proxy(proxy)
            .dns_resolver(Arc::new(resolver))
            .build()
            .map_err(|_| cannot_build())?;
        Ok(slot.get_or_init(|| client))
    }

    fn direct(&self, url: &Url) -> Result<&reqwest::Client, DialError> {
        let profile = &self.0;
        if url.scheme() == "http" {
            return Ok(&profile.http);
        }
        if let Some(client) = profile.https.get() {
            return Ok(client);
        }
        let config = client_config(&profile.tls)?;
        let resolver = PolicyResolver {
            judge: Arc::clone(&profile.judge),
            names: Arc::clone(&profile.names),
        };
        let client = direct_client(&config, profile.limits, resolver)?;
        Ok(profile.https.get_or_init(|| client))
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HttpClient")
            .field("judge", &self.0.judge)
            .finish_non_exhaustive()
    }
}

fn direct_client(
    tls: &rustls::ClientConfig,
    limits: Limits,
    resolver: PolicyResolver,
) -> Result<reqwest::Client, DialError> {
    base_client(tls, limits)
        .dns_resolver(Arc::new(resolver))
        .build()
        .map_err(|_| cannot_build())
}

fn base_client(tls: &rustls::ClientConfig, limits: Limits) -> reqwest::ClientBuilder {
    // The kernel counts it in seconds.
    let probe = (limits.silence / limits::PROBE_SHARE).max(Duration::from_secs(1));
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits.connect)
        .pool_max_idle_per_host(limits::IDLE_CONNECTIONS_PER_HOST)
        .pool_idle_timeout(limits::IDLE_CONNECTION_LIFE)
        .tcp_nodelay(true)
        .tcp_user_timeout(limits.silence)
        .tcp_keepalive(probe)
        .tcp_keepalive_interval(probe)
        .tcp_keepalive_retries(limits::PROBE_SHARE - 1)
        .http1_max_headers(limits::MAX_HEADER_COUNT)
        .http2_initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(limits::MAX_HEADER_BYTES)
        // Of HTTP/1.1 a connection goes with the request that is given up; this one is shared.
        .http2_keep_alive_interval(limits.silence / 2)
        .http2_keep_alive_timeout(limits.silence / 2)
}

/// HTTP/1.1 has no limit on the bytes of a head in the library, only on the lines.
fn check_head(reply: &reqwest::Response, host: &str) -> Result<(), DialError> {
    let bytes: usize = reply
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if bytes > limits::MAX_HEADER_BYTES as usize {
        return Err(unusable(host, "its head is too long"));
    }
    Ok(())
}

/// Host and, where it is not the usual one, port: what errors call the other side.
fn shown_host(url: &Url) -> String {
    let host = url.host_str().unwrap_or("(no host)");
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn unusable(host: &str, message: &str) -> DialError {
    DialError::Protocol {
        host: host.to_owned(),
        message: message.to_owned(),
    }
}

fn cannot_build() -> DialError {
    DialError::Configuration {
        subject: "HTTP client".to_owned(),
        message: "the library refused its settings".to_owned(),
    }
}
