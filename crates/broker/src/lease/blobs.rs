//! Where the reader of a lease finds a blob: at a signed location, at the registry with what it may
//! hold, or nowhere but here, where it is read for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use credential::auth::{
    AuthError, AuthSource, BlobLocation, LocationRequest, Pieces, ReadError, ReadFrom, ReadRequest,
};
use futures::StreamExt;
use jiff::Timestamp;
use reference::Registry;
use token_exchange::Rung;
use tokio::sync::MutexGuard;
use vault::SealedVersion;

use super::following::{VERSION_ATTEMPTS, changes_without_end};
use super::row::Gift;
use super::{Holder, Lease, SecretHolder, State, about_version};

/// What a version answered that is still the current one.
struct Answered<'h, T> {
    version: SealedVersion,
    answer: T,
    state: MutexGuard<'h, State>,
}

impl Lease {
    /// Who reads anonymously asks for itself.
    pub(super) async fn locate(&self, request: LocationRequest<'_>) -> Result<ReadFrom, AuthError> {
        self.check_origin(request.registry, request.repository)?;
        self.check_sole().await?;
        let Holder::Secret(holder) = &self.holder else {
            return Ok(ReadFrom::Registry);
        };
        let find = |current| self.find(holder, current, request.clone());
        let mut answered = self.ask(holder, find).await?;
        let current = answered.version;
        match answered.answer {
            Ok(found) => {
                self.show_way(holder, &mut answered.state, current, found)
                    .await
            }
            Err(error) => {
                self.note_failure(current, &error).await;
                Err(error)
            }
        }
    }

    /// Whether its reader may be told until then where layers lie in the shared cache, and with
    /// what they open. Has it on record: until then whoever holds that reads them.
    pub async fn give_shared(
        &self,
        registry: &Registry,
        repository: &str,
        not_after: Timestamp,
    ) -> Result<(), AuthError> {
        self.check_origin(registry, repository)?;
        self.check_sole().await?;
        let Holder::Secret(holder) = &self.holder else {
            return Ok(());
        };
        let nobody_asked = |_current| std::future::ready(());
        let mut answered = self.ask(holder, nobody_asked).await?;
        let current = answered.version;
        let gift = Gift {
            rung: Rung::SignedLocation,
            not_after: Some(not_after),
        };
        self.give(holder, &mut answered.state, current, gift)
            .await?;
        // Removed while it was written down: then nobody gets it.
        self.current(holder).await.map(|_version| ())
    }

    /// Asks with the current version, and again with one that came meanwhile: that answers for
    /// itself.
    async fn ask<'h, T, F: Future<Output = T>>(
        &self,
        holder: &'h SecretHolder,
        question: impl Fn(SealedVersion) -> F,
    ) -> Result<Answered<'h, T>, AuthError> {
        let mut version = self.follow(holder, &mut *holder.state.lock().await).await?;
        for _ in 0..VERSION_ATTEMPTS {
            let answer = question(version).await;
            let mut state = holder.state.lock().await;
            let newer = self.follow(holder, &mut state).await?;
            if newer == version {
                return Ok(Answered {
                    version,
                    answer,
                    state,
                });
            }
            version = newer;
        }
        Err(changes_without_end(holder))
    }

    /// The least that this blob can be read with by a version.
    async fn find(
        &self,
        holder: &SecretHolder,
        current: SealedVersion,
        request: LocationRequest<'_>,
    ) -> Result<ReadFrom, AuthError> {
        let located = self.source(holder, current).locate(request).await;
        let located = located.map_err(|error| about_version(error, holder, current))?;
        if let Some(location) = located {
            return Ok(ReadFrom::Location(location));
        }
        let vended = self.vend(holder, current, None).await?;
        if self.check_may_hold(holder, vended.rung).is_ok() {
            return Ok(ReadFrom::Registry);
        }
        Ok(ReadFrom::Source)
    }

    /// Has on record what the answer gives.
    async fn show_way(
        &self,
        holder: &SecretHolder,
        state: &mut State,
        current: SealedVersion,
        found: ReadFrom,
    ) -> Result<ReadFrom, AuthError> {
        let gift = match &found {
            ReadFrom::Registry => return Ok(found),
            ReadFrom::Location(location) => at_location(location),
            ReadFrom::Source => Gift::read_through(self.broker.clock.now()),
        };
        self.give(holder, state, current, gift).await?;
        // Removed while it was asked for: then nobody gets it.
        self.current(holder).await?;
        self.show(Some(current.version), gift.rung, gift.not_after);
        Ok(found)
    }

    /// Reads a stretch in place of the reader, with the current version.
    pub(super) async fn read_through(&self, request: ReadRequest<'_>) -> Result<Pieces, ReadError> {
        self.check_origin(request.registry, request.repository)?;
        self.check_sole().await?;
        if request.length().is_none() {
            return Err(refused(
                "a read through the broker is of some bytes of a blob, and few",
            ));
        }
        let Holder::Secret(holder) = &self.holder else {
            return Err(refused("who reads anonymously needs nobody to read for it"));
        };
        let read = |current| {
            let (source, request) = (self.source(holder, current), request.clone());
            async move { source.read(request).await }
        };
        let mut answered = self.ask(holder, read).await?;
        let current = answered.version;
        let pieces = match answered.answer {
            Ok(pieces) => pieces,
            Err(ReadError::Auth(error)) => {
                let error = about_version(error, holder, current);
                self.note_failure(current, &error).await;
                return Err(error.into());
            }
            Err(error) => return Err(error),
        };
        let found = ReadFrom::Source;
        self.show_way(holder, &mut answered.state, current, found)
            .await?;
        Ok(self.counted(pieces))
    }
}

impl Lease {
    fn counted(&self, pieces: Pieces) -> Pieces {
        let bytes = Arc::clone(&self.broker.read_through_bytes);
        Box::pin(pieces.inspect(move |piece| {
            let length = piece.as_ref().map_or(0, |piece| piece.len() as u64);
            bytes.fetch_add(length, Ordering::Relaxed);
        }))
    }
}

fn at_location(location: &BlobLocation) -> Gift {
    Gift {
        rung: Rung::SignedLocation,
        not_after: Some(location.not_after),
    }
}

fn refused(message: &str) -> ReadError {
    let message = message.to_owned();
    AuthError::Refused { message }.into()
}
