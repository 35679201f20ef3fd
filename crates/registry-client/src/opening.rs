//! Opening a blob: at the storage behind the registry where that is known, else at the registry, or
//! through the source where that gives no auth.
//!
//! ```text
//!   location known, and works -------------------------------------> it
//!   the source gives one (and is told which one did not work) ------> it, or an error to try again
//!   it reads itself -------------------------------------------------> what it sends
//!   it gives none: ask the registry, with auth ---------------------> where that led, remembered
//! ```
//!
//! Also the other end of it: finding a location for somebody else, who has no auth.

use std::ops::Range;

use credential::ExposeSecret;
use credential::auth::{AuthError, BlobLocation, MAX_READ_BYTES, Pieces, ReadError, ReadFrom};
use dial::{Method, Url};
use jiff::Timestamp;
use reference::Digest;

use crate::error::RegistryError;
use crate::exchange::{Call, Core};
use crate::follow::{self, Landed, Lead, Outgoing};
use crate::location::{Known, Location};

/// The bytes that are asked for when only the place of a blob is of interest.
const FIRST_BYTE: (u64, u64) = (0, 0);

/// A part of a blob.
#[derive(Debug, Clone)]
pub(crate) struct Stretch<'a> {
    pub(crate) digest: &'a Digest,
    /// Of the whole blob.
    pub(crate) size: u64,
    pub(crate) range: Range<u64>,
}

/// A blob that is opened.
pub(crate) enum Opened {
    Registry(Box<Landed>),
    /// Its source sends the beginning of the stretch, up to this byte.
    Source {
        pieces: Pieces,
        until: u64,
    },
}

impl Opened {
    fn registry(landed: Landed) -> Self {
        Self::Registry(Box::new(landed))
    }
}

/// Where the source has its clients read.
enum Sent {
    To(Location),
    ToRegistry,
    ToSource,
}

impl Core {
    /// Opens a blob, once: tries are counted by whoever reads it.
    pub(crate) async fn open_blob(
        &self,
        call: &Call<'_>,
        stretch: &Stretch<'_>,
    ) -> Result<Opened, RegistryError> {
        let digest = stretch.digest;
        if let Some(Known::At(location)) = self.locations.known(call.repository, digest) {
            match self.open_at(call, digest, &location).await {
                Err(error @ RegistryError::RateLimited { .. }) => return Err(error),
                // Whatever else goes wrong there, another one is asked for.
                Err(_) => {}
                landed => return landed.map(Opened::registry),
            }
        }
        if !self.asks_for_locations {
            return self.open_at_registry(call, digest).await;
        }
        let sent = self.given_location(call.repository, digest).await?;
        let is_to_registry = matches!(sent, Sent::ToRegistry);
        match self.open_where_sent(call, stretch, sent).await {
            // The source may have changed its mind since it sent us there.
            Err(RegistryError::Auth(AuthError::Refused { .. })) if is_to_registry => {
                self.locations.forget(call.repository, digest);
                let sent = self.given_location(call.repository, digest).await?;
                self.open_where_sent(call, stretch, sent).await
            }
            opened => opened,
        }
    }

    async fn open_where_sent(
        &self,
        call: &Call<'_>,
        stretch: &Stretch<'_>,
        sent: Sent,
    ) -> Result<Opened, RegistryError> {
        let digest = stretch.digest;
        match sent {
            Sent::To(location) => {
                let landed = self.open_at(call, digest, &location).await;
                landed.map(Opened::registry)
            }
            Sent::ToSource => self.open_at_source(call, stretch).await,
            Sent::ToRegistry => self.open_at_registry(call, digest).await,
        }
    }

    async fn open_at_registry(
        &self,
        call: &Call<'_>,
        digest: &Digest,
    ) -> Result<Opened, RegistryError> {
        let landed = self.attempt(call).await?;
        if landed.foreign {
            self.locations
                .found(call.repository, digest, landed.url.clone());
        }
        Ok(Opened::registry(landed))
    }

    async fn open_at_source(
        &self,
        call: &Call<'_>,
        stretch: &Stretch<'_>,
    ) -> Result<Opened, RegistryError> {
        let Stretch {
            digest,
            size,
            range,
        } = stretch.clone();
        let until = range.end.min(range.start.saturating_add(MAX_READ_BYTES));
        self.counters.count_request();
        let read = self
            .session
            .read(call.repository, digest, size, range.start..until);
        match read.await {
            Ok(pieces) => Ok(Opened::Source { pieces, until }),
            Err(error) => Err(by_source(error, &call.subject)),
        }
    }

    async fn open_at(
        &self,
        call: &Call<'_>,
        digest: &Digest,
        location: &Location,
    ) -> Result<Landed, RegistryError> {
        let headers = call.headers();
        let outgoing = Outgoing {
            registry: &self.name,
            method: call.method.clone(),
            url: location.url.clone(),
            headers: &headers,
            authorization: None,
        };
        let landed = follow::follow(&self.http, &self.counters, outgoing).await;
        let error = match landed {
            Ok(landed) if landed.response.status.is_success() => return Ok(landed),
            Ok(Landed { response, .. }) => {
                self.storage_verdict(response.status.as_u16(), response.retry_after())
            }
            Err(error) => error,
        };
        self.locations
            .refuse(call.repository, digest, location.serial);
        Err(error)
    }

    /// What the source says, asked once for all who open the blob now.
    async fn given_location(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Sent, RegistryError> {
        let turn = self.locations.turn(repository, digest);
        let _turn = turn.lock().await;
        let refused = match self.locations.known(repository, digest) {
            Some(Known::At(location)) => return Ok(Sent::To(location)),
            Some(Known::Nowhere { .. }) => return Ok(Sent::ToRegistry),
            Some(Known::AtSource { .. }) => return Ok(Sent::ToSource),
            Some(Known::Refused { serial }) => Some(serial),
            None => None,
        };
        let given = match self.session.location(repository, digest, refused).await {
            Ok(ReadFrom::Location(given)) => given,
            Ok(ReadFrom::Registry) => {
                self.locations.nowhere(repository, digest);
                return Ok(Sent::ToRegistry);
            }
            Ok(ReadFrom::Source) => {
                self.locations.at_source(repository, digest);
                return Ok(Sent::ToSource);
            }
            // An auth that is held may last for as long as the source is away.
            Err(error)
                if error.is_transient() && self.locations.was_nowhere(repository, digest) =>
            {
                return Ok(Sent::ToRegistry);
            }
            Err(error) => return Err(error.into()),
        };
        let url = self.readable(&given)?;
        let life = given.not_after.duration_since(Timestamp::now());
        let life = life.try_into().unwrap_or_default();
        let location = self
            .locations
            .given(repository, digest, url, given.serial, life);
        Ok(Sent::To(location))
    }

    fn readable(&self, given: &BlobLocation) -> Result<Url, RegistryError> {
        let url = Url::parse(given.url.expose_secret());
        let url = url.map_err(|_| self.protocol("a location that is no URL"))?;
        follow::check_target(&self.name, &url, &url)?;
        Ok(url)
    }

    /// Where a blob is, for who has no auth. Nothing where the registry sends it itself.
    pub(crate) async fn find_location(
        &self,
        repository: &str,
        digest: &Digest,
        refused: Option<u64>,
    ) -> Result<Option<BlobLocation>, RegistryError> {
        let turn = self.locations.turn(repository, digest);
        let _turn = turn.lock().await;
        match self.locations.known(repository, digest) {
            Some(Known::At(location))
                if Some(location.serial) != refused || !location.may_be_stale() =>
            {
                return Ok(Some(told(&location)));
            }
            Some(Known::Nowhere { .. }) => return Ok(None),
            _ => {}
        }
        let call = Call {
            // What is signed for one method is refused for another.
            method: Method::GET,
            path: format!("/v2/{repository}/blobs/{digest}"),
            repository,
            accept: None,
            range: Some(FIRST_BYTE),
            subject: format!("blob {digest} of {}/{repository}", self.name),
        };
        match self.attempt_lead(&call).await? {
            Lead::Here(_sent_by_itself) => {
                self.locations.nowhere(repository, digest);
                Ok(None)
            }
            Lead::Elsewhere(url) => {
                let location = self.locations.found(repository, digest, url);
                Ok(Some(told(&location)))
            }
        }
    }
}

/// What a source says that reads itself, as if the registry had.
pub(crate) fn by_source(error: ReadError, subject: &str) -> RegistryError {
    match error {
        ReadError::Auth(error) => error.into(),
        ReadError::NotFound => RegistryError::NotFound {
            subject: subject.to_owned(),
        },
        ReadError::Corrupt { message } => RegistryError::corrupt(subject, &message),
    }
}

fn told(location: &Location) -> BlobLocation {
    BlobLocation {
        url: location.url.as_str().to_owned().into(),
        not_after: Timestamp::now()
            .checked_add(location.life())
            .unwrap_or(Timestamp::MAX),
        serial: location.serial,
    }
}
