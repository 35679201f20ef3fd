//! What a registry's word is worth while the registry is away.
//!
//! ```text
//!   proven at T ---- until T + what the workspace allows ----> no longer
//!                 |                       |
//!                 refused since           another version, or a removed credential: at once
//! ```
//!
//! The one rule, for commands and the gateway alike. It is about proofs of possession and nothing
//! else: that an image is whole here, so that a start needs nothing but the word, is for whoever
//! starts it to see. Silence counts as an outage, and what says "later" in its place (status 5xx):
//! a registry that answers has the last word, and a refusal is remembered, so that it still counts
//! when the registry goes away after it.

use std::fmt;
use std::time::Duration;

use control_store::{GrantProof, Workspace};
use credential::auth::AuthError;
use ids::WorkspaceId;
use jiff::{SignedDuration, Timestamp};
use reference::Digest;
use registry_client::RegistryError;
use vault::{AuditAction, Noted};

use crate::broker::Broker;
use crate::error::BrokerError;
use crate::lease::Lease;

/// How long a proof counts where its workspace has not said: as long as the longest-lived token
/// that a registry gives (of ECR), so that a right that was taken back is used for no longer than
/// whoever holds such a token may anyway.
const OFFLINE_DEFAULT: Duration = Duration::from_hours(12);

/// The longest that may be set. Whoever has been refused nothing for a month is not in an outage.
pub const OFFLINE_MAX: Duration = Duration::from_hours(24 * 30);

/// What still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub proven_at: Timestamp,
    pub until: Timestamp,
}

/// Why nothing does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoStanding {
    /// The workspace wants each start to be proven.
    NotAllowed,
    /// Not with the credential as it is now.
    NotProven,
    /// The registry has said no since.
    Refused { at: Timestamp },
    TooOld {
        proven_at: Timestamp,
        allowed: Duration,
    },
    /// By a clock that shows less now.
    OtherClock { proven_at: Timestamp },
}

impl fmt::Display for NoStanding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed => formatter.write_str("its workspace has each start proven"),
            Self::NotProven => {
                formatter.write_str("nothing is proven of it with the credential as it is now")
            }
            Self::Refused { at } => write!(formatter, "the registry refused it at {at:.0}"),
            Self::TooOld { proven_at, allowed } => write!(
                formatter,
                "what was proven at {proven_at:.0} counts for {:#} only",
                shown(*allowed)
            ),
            Self::OtherClock { proven_at } => {
                write!(
                    formatter,
                    "it was proven at {proven_at:.0}, which is to come"
                )
            }
        }
    }
}

/// Whether nobody answered: not the registry, not who mints for it. A limit, or a certificate that
/// is not trusted, is an answer.
pub fn is_outage(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::Unreachable { .. } | RegistryError::Auth(AuthError::Unreachable { .. })
    )
}

/// Whether the registry said no.
fn is_refusal(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::Denied { .. }
            | RegistryError::NotFound { .. }
            | RegistryError::Auth(AuthError::BadCredential { .. } | AuthError::NoPermission { .. })
    )
}

impl Lease {
    /// What is proven of a manifest of this lease's repository, with what the lease is on now.
    pub async fn standing(
        &self,
        manifest: &Digest,
    ) -> Result<Result<Standing, NoStanding>, BrokerError> {
        // A removed credential ends here.
        let holds = match self.current_version().await? {
            None => GrantProof::Anonymous,
            Some(version) => GrantProof::Credential(version),
        };
        let (store, workspace) = (&self.broker.store, self.workspace);
        let allowed = offline_of(&store.workspaces().await?, workspace);
        let grant = store
            .last_proof(workspace, manifest, &self.origin())
            .await?;
        let Some(grant) = grant.filter(|grant| grant.proof == holds) else {
            return Ok(Err(NoStanding::NotProven));
        };
        if let Some(at) = grant.refused_at {
            return Ok(Err(NoStanding::Refused { at }));
        }
        Ok(judge(grant.granted_at, allowed, self.broker.clock.now()))
    }

    /// Remembers that the registry, asked for a manifest, said no; what else went wrong says
    /// nothing.
    pub async fn note_refusal(
        &self,
        manifest: &Digest,
        error: &RegistryError,
    ) -> Result<(), BrokerError> {
        let (store, workspace) = (&self.broker.store, self.workspace);
        if is_refusal(error) {
            let origin = self.origin();
            store.note_refusal(workspace, manifest, &origin).await?;
        }
        if let (RegistryError::Auth(AuthError::BadCredential { .. }), Some(secret)) =
            (error, self.secret_id())
        {
            store.note_refused_credential(workspace, secret).await?;
        }
        Ok(())
    }
}

impl Broker {
    /// Sets how long a proof counts, with a row in the audit log before it does.
    pub async fn set_offline(
        &self,
        workspace: WorkspaceId,
        offline: Duration,
        actor: &str,
    ) -> Result<(), BrokerError> {
        let about = Noted {
            workspace: Some(workspace),
            subject: "offline",
            detail: &format!("{} seconds", offline.as_secs()),
        };
        let broker = &*self.inner;
        broker.vault.note(AuditAction::Set, actor, about).await?;
        broker
            .store
            .set_offline(workspace, offline.min(OFFLINE_MAX))
            .await?;
        Ok(())
    }
}

/// For how long what registries proved to this workspace counts while they are away.
pub fn offline_for(workspace: &Workspace) -> Duration {
    workspace
        .offline
        .unwrap_or(OFFLINE_DEFAULT)
        .min(OFFLINE_MAX)
}

/// One that is not there has nothing.
fn offline_of(all: &[Workspace], workspace: WorkspaceId) -> Duration {
    let own = all.iter().find(|own| own.id == workspace);
    own.map_or(Duration::ZERO, offline_for)
}

fn judge(proven_at: Timestamp, allowed: Duration, now: Timestamp) -> Result<Standing, NoStanding> {
    if allowed.is_zero() {
        return Err(NoStanding::NotAllowed);
    }
    if proven_at > now {
        return Err(NoStanding::OtherClock { proven_at });
    }
    let until = proven_at.checked_add(allowed).unwrap_or(Timestamp::MAX);
    if until <= now {
        return Err(NoStanding::TooOld { proven_at, allowed });
    }
    Ok(Standing { proven_at, until })
}

fn shown(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_proof_counts_until_its_time_is_over_and_not_by_another_clock() {
        let hour = Duration::from_hours(1);
        let stands = Ok(Standing {
            proven_at: at(0),
            until: at(3600),
        });
        let too_old = Err(NoStanding::TooOld {
            proven_at: at(0),
            allowed: hour,
        });
        let other = Err(NoStanding::OtherClock { proven_at: at(0) });
        for (allowed, now, expected) in [
            (hour, 0, stands),
            (hour, 3599, stands),
            (hour, 3600, too_old),
            (hour, 1 << 40, too_old),
            (hour, -1, other),
            (Duration::ZERO, 0, Err(NoStanding::NotAllowed)),
        ] {
            let now = if now > 1 << 33 {
                Timestamp::MAX
            } else {
                at(now)
            };
            assert_eq!(judge(at(0), allowed, now), expected, "{allowed:?} {now}");
        }
    }

    #[test]
    fn silence_is_an_outage_and_an_answer_is_none() {
        let text = String::new;
        let registry = RegistryError::Unreachable {
            registry: text(),
            message: text(),
        };
        let minting = RegistryError::Auth(AuthError::Unreachable { message: text() });
        for error in [registry, minting] {
            assert!(is_outage(&error) && !is_refusal(&error), "{error:?}");
        }
        let subject = text;
        let refusals = [
            RegistryError::Auth(AuthError::BadCredential { message: text() }),
            RegistryError::Auth(AuthError::NoPermission { message: text() }),
            RegistryError::NotFound { subject: subject() },
            RegistryError::Denied {
                subject: subject(),
                status: 403,
                message: text(),
            },
        ];
        for error in refusals {
            assert!(!is_outage(&error) && is_refusal(&error), "{error:?}");
        }
        let neither = [
            RegistryError::Auth(AuthError::Revoked { message: text() }),
            RegistryError::Auth(AuthError::Tls { message: text() }),
            RegistryError::RateLimited {
                registry: text(),
                retry_after: None,
            },
            RegistryError::Tls {
                registry: text(),
                message: text(),
                hint: None,
            },
            RegistryError::Protocol {
                registry: text(),
                message: text(),
            },
        ];
        for error in neither {
            assert!(!is_outage(&error) && !is_refusal(&error), "{error:?}");
        }
    }
}
