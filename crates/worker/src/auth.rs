//! What a container's mount reads with: asked of the control plane, by the container's delivery.
//!
//! What comes is a secret, and moves into types that do not show it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use credential::SecretString;
use credential::auth::{
    AuthError, AuthFuture, AuthRequest, AuthScheme, AuthSource, BlobLocation, LocationFuture,
    LocationRequest, Pieces, ReadError, ReadFrom, ReadFuture, ReadRequest, RegistryAuth, Rejection,
    SharedFuture, SharedLayer, SharedRequest,
};
use futures::StreamExt;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tonic::Status;
use worker_protocol as message;
use worker_protocol::MAX_READS_PER_CONTAINER;
use worker_protocol::auth_answer::Answer;
use worker_protocol::denial::Kind;
use worker_protocol::location_answer::Answer as Located;
use worker_protocol::read_piece::Piece;
use worker_protocol::registry_auth::Scheme;
use worker_protocol::shared_answer::Answer as Shared;

use crate::attach::ControlPlane;

const NONCE_BYTES: usize = 16;

/// Asks for one container.
#[derive(Debug)]
pub(crate) struct LeaseAuth {
    control_plane: ControlPlane,
    delivery: message::Delivery,
    /// Questions asked so far.
    asked: AtomicU64,
    /// The container's own share of the worker's turns.
    reads: Arc<Semaphore>,
}

impl LeaseAuth {
    pub(crate) fn new(control_plane: ControlPlane, delivery: message::Delivery) -> Self {
        Self {
            control_plane,
            delivery,
            asked: AtomicU64::new(0),
            reads: Arc::new(Semaphore::new(MAX_READS_PER_CONTAINER)),
        }
    }

    /// Of the next question: whoever has a copy of all that is here comes with other bytes.
    fn stamp(&self) -> message::Stamp {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the system gives random bytes once it has begun to");
        message::Stamp {
            number: self.asked.fetch_add(1, Ordering::Relaxed) + 1,
            nonce: Bytes::copy_from_slice(&nonce),
        }
    }
}

impl AuthSource for LeaseAuth {
    fn auth<'a>(&'a self, request: AuthRequest<'a>) -> AuthFuture<'a> {
        Box::pin(async move {
            let question = message::AuthQuestion {
                delivery: Some(self.delivery.clone()),
                registry: request.registry.to_string(),
                repository: request.repository.to_owned(),
                rejected: request.rejected.map(rejection),
                stamp: Some(self.stamp()),
            };
            let asked = Timestamp::now();
            let answer = self.control_plane.auth(question).await;
            parse(answer.map_err(|status| no_answer(&status))?, asked)
        })
    }

    fn location<'a>(&'a self, request: LocationRequest<'a>) -> LocationFuture<'a> {
        Box::pin(async move {
            let question = message::LocationQuestion {
                delivery: Some(self.delivery.clone()),
                registry: request.registry.to_string(),
                repository: request.repository.to_owned(),
                digest: request.digest.to_string(),
                refused: request.refused,
                stamp: Some(self.stamp()),
            };
            let asked = Timestamp::now();
            let answer = self.control_plane.location(question).await;
            parse_located(answer.map_err(|status| no_answer(&status))?, asked)
        })
    }

    fn shared<'a>(&'a self, request: SharedRequest<'a>) -> SharedFuture<'a> {
        Box::pin(async move {
            let question = message::SharedQuestion {
                delivery: Some(self.delivery.clone()),
                registry: request.registry.to_string(),
                repository: request.repository.to_owned(),
                digest: request.digest.to_string(),
                stamp: Some(self.stamp()),
            };
            let asked = Timestamp::now();
            let answer = self.control_plane.shared(question).await;
            parse_shared(answer.map_err(|status| no_answer(&status))?, asked)
        })
    }

    fn read<'a>(&'a self, request: ReadRequest<'a>) -> ReadFuture<'a> {
        Box::pin(async move {
            // Stamped with its turn: one that is given up while it waits takes no number, and no
            // later question comes so far ahead of it that it looks like another holder's.
            let turn = self.control_plane.read_turn(&self.reads).await;
            let question = message::ReadQuestion {
                delivery: Some(self.delivery.clone()),
                registry: request.registry.to_string(),
                repository: request.repository.to_owned(),
                digest: request.digest.to_string(),
                size_bytes: request.size_bytes,
                offset: request.range.start,
                length_bytes: request.range.end.saturating_sub(request.range.start),
                stamp: Some(self.stamp()),
            };
            let reading = self.control_plane.read(question).await;
            let pieces = reading.map_err(|status| no_answer(&status))?;
            let pieces = pieces.map(move |piece| {
                let _until_dropped = &turn;
                parse_piece(piece)
            });
            Ok(Box::pin(pieces) as Pieces)
        })
    }
}

/// Who reads the pieces counts them.
fn parse_piece(piece: Result<message::ReadPiece, Status>) -> Result<Bytes, ReadError> {
    let piece = piece.map_err(|status| no_answer(&status))?;
    match piece.piece.ok_or_else(meaningless)? {
        Piece::Data(data) if data.is_empty() => Err(meaningless().into()),
        Piece::Data(data) => Ok(data),
        Piece::Denial(denial) => Err(parse_denial(denial).into()),
        Piece::NotFound(_) => Err(ReadError::NotFound),
        Piece::Corrupt(message) => Err(ReadError::Corrupt { message }),
    }
}

fn rejection(rejected: Rejection) -> message::Rejection {
    message::Rejection {
        serial: rejected.serial,
        status: rejected.status.into(),
        challenges: rejected.challenges,
        says_expired: rejected.says_expired,
    }
}

fn no_answer(status: &Status) -> AuthError {
    AuthError::Unreachable {
        message: format!("the control plane gives no answer: {}", status.code()),
    }
}

fn parse_located(answer: message::LocationAnswer, asked: Timestamp) -> Result<ReadFrom, AuthError> {
    match answer.answer.ok_or_else(meaningless)? {
        Located::Location(location) => Ok(ReadFrom::Location(BlobLocation {
            url: SecretString::from(location.url),
            not_after: end(asked, location.remaining_ms)?,
            serial: location.serial,
        })),
        Located::Denial(denial) => Err(parse_denial(denial)),
        Located::Nowhere(_) => Ok(ReadFrom::Registry),
        Located::ReadHere(_) => Ok(ReadFrom::Source),
    }
}

fn parse_shared(
    answer: message::SharedAnswer,
    asked: Timestamp,
) -> Result<Option<SharedLayer>, AuthError> {
    match answer.answer.ok_or_else(meaningless)? {
        Shared::Layer(layer) => Ok(Some(SharedLayer {
            url: SecretString::from(layer.url),
            key: SecretString::from(layer.key),
            not_after: end(asked, layer.remaining_ms)?,
            plain_http: layer.plain_http,
            ca_pem: layer.ca_pem.map(Into::into),
        })),
        Shared::Denial(denial) => Err(parse_denial(denial)),
        Shared::Nowhere(_) => Ok(None),
    }
}

/// What is said to be left is counted from the question: the answer was under way for a while.
fn end(asked: Timestamp, remaining_ms: u64) -> Result<Timestamp, AuthError> {
    let end = asked.checked_add(Duration::from_millis(remaining_ms));
    end.map_err(|_| meaningless())
}

fn parse(answer: message::AuthAnswer, asked: Timestamp) -> Result<RegistryAuth, AuthError> {
    match answer.answer {
        Some(Answer::Auth(auth)) => parse_auth(auth, asked),
        Some(Answer::Denial(denial)) => Err(parse_denial(denial)),
        None => Err(meaningless()),
    }
}

fn meaningless() -> AuthError {
    AuthError::Internal {
        message: "the control plane's answer has no meaning".to_owned(),
    }
}

fn parse_auth(auth: message::RegistryAuth, asked: Timestamp) -> Result<RegistryAuth, AuthError> {
    let scheme = match auth.scheme.ok_or_else(meaningless)? {
        Scheme::Anonymous(_) => AuthScheme::Anonymous,
        Scheme::Basic(basic) => AuthScheme::Basic {
            username: basic.username,
            password: SecretString::from(basic.password),
        },
        Scheme::Bearer(token) => AuthScheme::Bearer(SecretString::from(token)),
    };
    let not_after = auth.remaining_ms.map(|left| end(asked, left));
    Ok(RegistryAuth {
        scheme,
        not_after: not_after.transpose()?,
        serial: auth.serial,
    })
}

fn parse_denial(denial: message::Denial) -> AuthError {
    let (kind, retry_after) = (denial.kind(), denial.retry_after_ms);
    let message = denial.message;
    match kind {
        Kind::BadCredential => AuthError::BadCredential { message },
        Kind::NoPermission => AuthError::NoPermission { message },
        Kind::RateLimited => AuthError::RateLimited {
            retry_after: retry_after.map(Duration::from_millis),
            message,
        },
        Kind::Unreachable => AuthError::Unreachable { message },
        Kind::Tls => AuthError::Tls { message },
        Kind::Revoked => AuthError::Revoked { message },
        Kind::Refused => AuthError::Refused { message },
        Kind::Internal => AuthError::Internal { message },
    }
}

#[cfg(test)]
mod tests {
    use credential::ExposeSecret;
    use message::{Anonymous, AuthAnswer, Basic, Denial};

    use super::*;

    fn answer(scheme: Option<Scheme>, remaining_ms: Option<u64>) -> AuthAnswer {
        let auth = message::RegistryAuth {
            serial: 7,
            remaining_ms,
            scheme,
        };
        AuthAnswer {
            answer: Some(Answer::Auth(auth)),
        }
    }

    #[test]
    fn every_scheme_arrives() {
        let basic = Basic {
            username: "user".to_owned(),
            password: "hunter2".to_owned(),
        };
        let anonymous = Scheme::Anonymous(Anonymous {});
        let table = [
            (anonymous, ""),
            (Scheme::Basic(basic), "user:hunter2"),
            (Scheme::Bearer("hunter2".to_owned()), "hunter2"),
        ];
        for (scheme, expected) in table {
            let auth = parse(answer(Some(scheme), Some(1_500)), Timestamp::UNIX_EPOCH).unwrap();
            let sent = match &auth.scheme {
                AuthScheme::Anonymous => String::new(),
                AuthScheme::Basic { username, password } => {
                    format!("{username}:{}", password.expose_secret())
                }
                AuthScheme::Bearer(token) => token.expose_secret().to_owned(),
            };
            assert_eq!((sent.as_str(), auth.serial), (expected, 7));
            assert_eq!(auth.not_after.map(Timestamp::as_millisecond), Some(1_500));
        }
    }

    #[test]
    fn every_denial_arrives() {
        let kinds = (0..8).map(|number| Kind::try_from(number).unwrap());
        for kind in kinds {
            let denial = Denial {
                kind: kind.into(),
                message: "no".to_owned(),
                retry_after_ms: Some(5),
            };
            let error = parse_denial(denial);
            let variant = format!("{error:?}");
            assert!(variant.starts_with(&format!("{kind:?}")), "{variant}");
            assert_eq!(error.to_string(), "no");
        }
    }

    #[test]
    fn locations_arrive_and_so_does_that_there_is_none() {
        let located = |answer| {
            let answer = message::LocationAnswer { answer };
            parse_located(answer, Timestamp::UNIX_EPOCH)
        };
        let location = |remaining_ms| {
            Some(Located::Location(message::BlobLocation {
                serial: 7,
                remaining_ms,
                url: "https://storage.example/hunter2".to_owned(),
            }))
        };
        let ReadFrom::Location(found) = located(location(1_500)).unwrap() else {
            panic!("a location");
        };
        let url = found.url.expose_secret();
        assert_eq!((url, found.serial), ("https://storage.example/hunter2", 7));
        assert_eq!(found.not_after.as_millisecond(), 1_500);
        assert!(!format!("{found:?}").contains("hunter2"));
        let nowhere = located(Some(Located::Nowhere(message::Nowhere {})));
        assert!(matches!(nowhere, Ok(ReadFrom::Registry)));
        let here = located(Some(Located::ReadHere(message::ReadHere {})));
        assert!(matches!(here, Ok(ReadFrom::Source)));
        for answer in [None, location(u64::MAX)] {
            assert_eq!(located(answer).unwrap_err(), meaningless());
        }
    }

    #[test]
    fn layers_of_the_shared_cache_arrive_and_so_does_that_there_are_none() {
        let shared = |answer| {
            let answer = message::SharedAnswer { answer };
            parse_shared(answer, Timestamp::UNIX_EPOCH)
        };
        let layer = |remaining_ms| {
            Some(Shared::Layer(message::SharedLayer {
                url: "https://store.example/hunter2".to_owned(),
                key: "hunter3".to_owned(),
                remaining_ms,
                plain_http: true,
                ca_pem: Some(Bytes::from_static(b"pem")),
            }))
        };
        let found = shared(layer(1_500)).unwrap().unwrap();
        assert_eq!(found.url.expose_secret(), "https://store.example/hunter2");
        assert_eq!(found.key.expose_secret(), "hunter3");
        assert_eq!(found.not_after.as_millisecond(), 1_500);
        assert_eq!(
            (found.plain_http, found.ca_pem.as_deref()),
            (true, Some(&b"pem"[..]))
        );
        assert!(!format!("{found:?}").contains("hunter"));
        let nowhere = shared(Some(Shared::Nowhere(message::Nowhere {})));
        assert!(matches!(nowhere, Ok(None)));
        for answer in [None, layer(u64::MAX)] {
            assert_eq!(shared(answer).unwrap_err(), meaningless());
        }
    }

    #[test]
    fn pieces_arrive_and_so_does_why_there_are_no_more() {
        let denial = Denial {
            kind: Kind::Unreachable.into(),
            message: "away".to_owned(),
            retry_after_ms: None,
        };
        let parse = |piece| parse_piece(Ok(message::ReadPiece { piece }));
        assert_eq!(parse(Some(Piece::Data("abc".into()))), Ok("abc".into()));
        let away = parse(Some(Piece::Denial(denial))).unwrap_err();
        assert!(matches!(away, ReadError::Auth(error) if error.is_transient()));
        let absent = parse(Some(Piece::NotFound(message::NotFound {})));
        assert_eq!(absent, Err(ReadError::NotFound));
        let corrupt = parse(Some(Piece::Corrupt("no".to_owned()))).unwrap_err();
        assert!(matches!(corrupt, ReadError::Corrupt { .. }));
        for piece in [None, Some(Piece::Data(Bytes::new()))] {
            assert_eq!(parse(piece), Err(meaningless().into()));
        }
        let broken = parse_piece(Err(Status::unavailable("gone"))).unwrap_err();
        assert!(matches!(broken, ReadError::Auth(error) if error.is_transient()));
    }

    #[test]
    fn an_answer_without_meaning_is_an_error() {
        let nothing = AuthAnswer { answer: None };
        let late = answer(Some(Scheme::Anonymous(Anonymous {})), Some(u64::MAX));
        for answer in [nothing, answer(None, None), late] {
            assert_eq!(
                parse(answer, Timestamp::UNIX_EPOCH).unwrap_err(),
                meaningless()
            );
        }
    }
}
