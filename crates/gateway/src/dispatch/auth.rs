//! What a container's mount reads with, as its worker is answered that asks for it.

use std::sync::Arc;

use broker::{Lease, Stamp};
use credential::ExposeSecret;
use credential::auth::{
    AuthError, AuthRequest, AuthScheme, AuthSource, BlobLocation, LocationRequest, ReadFrom,
    RegistryAuth, Rejection,
};
use jiff::Timestamp;
use reference::Digest;
use tonic::Status;
use worker_protocol::{
    AuthAnswer, AuthQuestion, Basic, Denial, LocationAnswer, LocationQuestion, Nowhere, ReadHere,
    SharedAnswer, SharedLayer, SharedQuestion, auth_answer, denial, location_answer, registry_auth,
    shared_answer,
};

use super::connection::Connection;
use super::container::{Container, Reading};
use super::hand_off::reader_of;
use crate::shared_cache::LayerAt;

pub(super) const NO_SUCH_LAYER: &str = "the container's image has no such layer";
const NO_STAMP: &str = "the question has no number and bytes of its own";
const OTHER_ORIGIN: &str = "the container reads another origin";

impl Connection {
    pub(super) async fn answer_auth(&self, question: AuthQuestion) -> Result<AuthAnswer, Status> {
        let origin = (&*question.registry, &*question.repository);
        let delivery = question.delivery.as_ref();
        let container = self.reader(delivery, origin, "auth").await?;
        let reading = &container.given.reading;
        let request = AuthRequest {
            registry: &reading.registry,
            repository: &reading.repository,
            rejected: question.rejected.map(rejection),
        };
        let admitted = self.admit(&container, question.stamp, "auth").await?;
        let answer = match admitted {
            Ok(lease) => lease.auth_for_worker(&reading.layers, request).await,
            Err(error) => Err(error),
        };
        let answer = match answer {
            Ok(auth) => auth_answer::Answer::Auth(wire_auth(auth)),
            Err(error) => auth_answer::Answer::Denial(wire_denial(&error)),
        };
        Ok(AuthAnswer {
            answer: Some(answer),
        })
    }
}

impl Connection {
    pub(super) async fn answer_location(
        &self,
        question: LocationQuestion,
    ) -> Result<LocationAnswer, Status> {
        let origin = (&*question.registry, &*question.repository);
        let delivery = question.delivery.as_ref();
        let container = self.reader(delivery, origin, "location").await?;
        let reading = &container.given.reading;
        let Some(digest) = reading.layer(&question.digest) else {
            return Err(self.forbid(&container, "location", NO_SUCH_LAYER).await);
        };
        let request = LocationRequest {
            registry: &reading.registry,
            repository: &reading.repository,
            digest,
            refused: question.refused,
        };
        let admitted = self.admit(&container, question.stamp, "location").await?;
        let answer = match admitted {
            Ok(lease) => lease.location(request).await,
            Err(error) => Err(error),
        };
        let answer = match answer {
            Ok(ReadFrom::Location(location)) => {
                location_answer::Answer::Location(wire_location(&location))
            }
            Ok(ReadFrom::Registry) => location_answer::Answer::Nowhere(Nowhere {}),
            Ok(ReadFrom::Source) => location_answer::Answer::ReadHere(ReadHere {}),
            Err(error) => location_answer::Answer::Denial(wire_denial(&error)),
        };
        Ok(LocationAnswer {
            answer: Some(answer),
        })
    }
}

impl Connection {
    pub(super) async fn answer_shared(
        &self,
        question: SharedQuestion,
    ) -> Result<SharedAnswer, Status> {
        let origin = (&*question.registry, &*question.repository);
        let delivery = question.delivery.as_ref();
        let container = self.reader(delivery, origin, "shared layer").await?;
        let reading = &container.given.reading;
        let Some((digest, size_bytes)) = reading.sized_layer(&question.digest) else {
            return Err(self.forbid(&container, "shared layer", NO_SUCH_LAYER).await);
        };
        let layer = LayerAt {
            origin: &reading.origin,
            digest,
            size_bytes,
        };
        let admitted = self.admit(&container, question.stamp, "shared layer");
        let answer = match admitted.await? {
            Ok(lease) => self.shared(&lease, reading, layer).await,
            Err(error) => Err(error),
        };
        let answer = match answer {
            Ok(Some(layer)) => shared_answer::Answer::Layer(layer),
            Ok(None) => shared_answer::Answer::Nowhere(Nowhere {}),
            Err(error) => shared_answer::Answer::Denial(wire_denial(&error)),
        };
        Ok(SharedAnswer {
            answer: Some(answer),
        })
    }

    async fn shared(
        &self,
        lease: &Lease,
        reading: &Reading,
        layer: LayerAt<'_>,
    ) -> Result<Option<SharedLayer>, AuthError> {
        let Some(shared) = self.gateway.find_shared(layer).await else {
            return Ok(None);
        };
        let (registry, repository) = (&reading.registry, &reading.repository);
        lease
            .give_shared(registry, repository, shared.not_after)
            .await?;
        Ok(Some(SharedLayer {
            url: shared.url.expose_secret().to_owned(),
            key: shared.key.expose_secret().to_owned(),
            remaining_ms: remaining_ms(shared.not_after),
            plain_http: shared.plain_http,
            ca_pem: shared.ca_pem.map(Into::into),
        }))
    }
}

impl Connection {
    /// The container that asks about the registry and repository that it reads.
    pub(super) async fn reader(
        &self,
        delivery: Option<&worker_protocol::Delivery>,
        (registry, repository): (&str, &str),
        question: &str,
    ) -> Result<Arc<Container>, Status> {
        let container = self.container(delivery, question).await?;
        let reading = &container.given.reading;
        if registry == reading.registry.as_str() && repository == reading.repository {
            return Ok(container);
        }
        Err(self.forbid(&container, question, OTHER_ORIGIN).await)
    }

    /// The lease of a container, if the one that holds it asks.
    pub(super) async fn admit(
        &self,
        container: &Container,
        stamp: Option<worker_protocol::Stamp>,
        question: &str,
    ) -> Result<Result<Arc<Lease>, AuthError>, Status> {
        let Some(stamp) = stamp.as_ref().and_then(parse_stamp) else {
            return Err(self.forbid(container, question, NO_STAMP).await);
        };
        let lease = container.given.reading.lease.clone();
        let lease = lease.ok_or_else(|| Status::not_found("the container reads nothing"))?;
        let asker = reader_of(container.id, container.link.id);
        Ok(lease.admit(&asker, stamp).await.map(|()| lease))
    }
}

fn parse_stamp(stamp: &worker_protocol::Stamp) -> Option<Stamp> {
    Some(Stamp {
        number: stamp.number,
        nonce: stamp.nonce.as_ref().try_into().ok()?,
    })
}

impl Reading {
    /// The layer of its image that has this digest.
    pub(super) fn layer(&self, digest: &str) -> Option<&Digest> {
        self.layers.iter().find(|layer| layer.as_str() == digest)
    }

    /// The same, and how many bytes it has.
    fn sized_layer(&self, digest: &str) -> Option<(&Digest, u64)> {
        let sized = self.layers.iter().zip(self.sizes_bytes.iter().copied());
        let mut sized = sized.filter(|(layer, _)| layer.as_str() == digest);
        sized.next()
    }
}

fn wire_location(location: &BlobLocation) -> worker_protocol::BlobLocation {
    worker_protocol::BlobLocation {
        serial: location.serial,
        remaining_ms: remaining_ms(location.not_after),
        url: location.url.expose_secret().to_owned(),
    }
}

fn rejection(rejection: worker_protocol::Rejection) -> Rejection {
    Rejection {
        serial: rejection.serial,
        status: u16::try_from(rejection.status).unwrap_or(0),
        challenges: rejection.challenges,
        says_expired: rejection.says_expired,
        is_hearsay: true,
    }
}

fn wire_auth(auth: RegistryAuth) -> worker_protocol::RegistryAuth {
    let scheme = match auth.scheme {
        AuthScheme::Anonymous => registry_auth::Scheme::Anonymous(worker_protocol::Anonymous {}),
        AuthScheme::Basic { username, password } => registry_auth::Scheme::Basic(Basic {
            username,
            password: password.expose_secret().to_owned(),
        }),
        AuthScheme::Bearer(token) => {
            registry_auth::Scheme::Bearer(token.expose_secret().to_owned())
        }
    };
    worker_protocol::RegistryAuth {
        serial: auth.serial,
        remaining_ms: auth.not_after.map(remaining_ms),
        scheme: Some(scheme),
    }
}

fn remaining_ms(end: Timestamp) -> u64 {
    let left = end.duration_since(Timestamp::now()).as_millis();
    u64::try_from(left).unwrap_or(0)
}

pub(super) fn wire_denial(error: &AuthError) -> Denial {
    let (kind, retry_after) = match error {
        AuthError::BadCredential { .. } => (denial::Kind::BadCredential, None),
        AuthError::NoPermission { .. } => (denial::Kind::NoPermission, None),
        AuthError::RateLimited { retry_after, .. } => (denial::Kind::RateLimited, *retry_after),
        AuthError::Unreachable { .. } => (denial::Kind::Unreachable, None),
        AuthError::Tls { .. } => (denial::Kind::Tls, None),
        AuthError::Revoked { .. } => (denial::Kind::Revoked, None),
        AuthError::Refused { .. } => (denial::Kind::Refused, None),
        _ => (denial::Kind::Internal, None),
    };
    let message = match kind {
        // It ends up where functions print.
        denial::Kind::Internal => "the gateway failed".to_owned(),
        _ => error.to_string(),
    };
    Denial {
        kind: kind.into(),
        message,
        retry_after_ms: retry_after.and_then(|time| u64::try_from(time.as_millis()).ok()),
    }
}
