//! Which kind of failure each crate's error is, and its hint.
//!
//! One place, so that the same trouble has the same exit code in every command.

use broker::BrokerError;
use control_store::StoreError as StateError;
use credential::CredentialError;
use credential::auth::AuthError;
use gateway::{Kind as ProblemKind, Problem};
use image::ImageError;
use image_fs::CacheError;
use image_mount::MountError;
use image_store::StoreError;
use launch::LaunchError;
use layer_indexer::IndexerError;
use registry_client::RegistryError;
use token_exchange::KeyNamesError;
use vault::VaultError;

use crate::failure::{Failure, Kind};

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        let kind = match &error {
            AuthError::BadCredential { .. }
            | AuthError::NoPermission { .. }
            | AuthError::Revoked { .. }
            | AuthError::Refused { .. } => Kind::Denied,
            AuthError::RateLimited { .. } => Kind::RateLimited,
            AuthError::Unreachable { .. } | AuthError::Tls { .. } => Kind::Unreachable,
            _ => Kind::Internal,
        };
        Self::of(kind, &error).hint_if(error.hint())
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let kind = match error {
            RegistryError::Auth(error) => return error.into(),
            RegistryError::NotFound { .. } => Kind::NotFound,
            RegistryError::Denied { .. } | RegistryError::Refused { .. } => Kind::Denied,
            RegistryError::RateLimited { .. } => Kind::RateLimited,
            RegistryError::Unreachable { .. }
            | RegistryError::Tls { .. }
            | RegistryError::Protocol { .. } => Kind::Unreachable,
            RegistryError::Corrupt { .. } => Kind::Corrupt,
            RegistryError::Unsupported { .. } => Kind::Unsupported,
            _ => Kind::Internal,
        };
        let hint = error.hint();
        Self::of(kind, &error).hint_if(hint)
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Registry(error) => error.into(),
            ImageError::Malformed { .. } => Self::of(Kind::Corrupt, &error),
            ImageError::TooLarge { .. } => Self::of(Kind::Unsupported, &error),
            ImageError::Layer { ref source, .. } => Self::of(of_layer(source), &error),
            ImageError::Cache(error) => error.into(),
            ImageError::Store(_) | ImageError::NoCache | ImageError::NotWhole { .. } => {
                Self::of(Kind::Machine, &error)
            }
        }
    }
}

/// Only what the layer's own bytes are is their fault; a limit is our word, and a disk is the
/// machine's.
fn of_layer(error: &IndexerError) -> Kind {
    match error {
        IndexerError::Digest { .. } | IndexerError::Stream(_) | IndexerError::Archive(_) => {
            Kind::Corrupt
        }
        IndexerError::Limit(_) => Kind::Unsupported,
        IndexerError::Write(_) => Kind::Machine,
        IndexerError::Read(_) => Kind::Unreachable,
        IndexerError::Process(_) => Kind::Internal,
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        let kind = match &error {
            BrokerError::Auth { source, .. } => Self::from(source.clone()).kind,
            BrokerError::NoCredential { .. }
            | BrokerError::NotShared { .. }
            | BrokerError::SeveralShared { .. } => Kind::NotFound,
            BrokerError::Vault(_)
            | BrokerError::Store(_)
            | BrokerError::IssuerBusy
            | BrokerError::IssuerUnreadable(_)
            | BrokerError::IssuerDamaged(_)
            | BrokerError::IssuerFailed(_) => of_database(error.kind()),
            _ => Kind::Invalid,
        };
        let hint = match &error {
            BrokerError::Vault(error) => hint_of_vault(error),
            error => error.hint(),
        };
        Self::of(kind, &error).hint_if(hint)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let kind = match problem.kind {
            ProblemKind::NotFound => Kind::NotFound,
            ProblemKind::Denied | ProblemKind::Unauthenticated => Kind::Denied,
            ProblemKind::Unsupported => Kind::Unsupported,
            ProblemKind::Internal => Kind::Internal,
            ProblemKind::Busy | ProblemKind::Unavailable => Kind::Machine,
            _ => Kind::Invalid,
        };
        Self::new(kind, &problem).hint_if(problem.hint)
    }
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        let kind = of_database(error.kind());
        Self::of(kind, &error).hint_if(hint_of_vault(&error))
    }
}

/// The vault knows how it is moved to a server, and not that the state is to be there too.
fn hint_of_vault(error: &VaultError) -> Option<String> {
    let hint = error.hint()?;
    Some(match error {
        VaultError::InFile { .. } => format!(
            "{hint}. The state, in state.db, goes there in the same way, by `holdfast state \
             backup` and `holdfast state restore`"
        ),
        _ => hint,
    })
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        let (kind, hint) = (of_database(error.kind()), error.hint());
        Self::of(kind, &error).hint_if(hint)
    }
}

/// By the one word that both databases have for each of their errors.
fn of_database(word: &str) -> Kind {
    match word {
        "not_found" => Kind::NotFound,
        "bad_input" => Kind::Invalid,
        "busy" | "storage" => Kind::Machine,
        "unreachable" => Kind::Unreachable,
        _ => Kind::Vault,
    }
}

impl From<CredentialError> for Failure {
    fn from(error: CredentialError) -> Self {
        let hint = error.hint();
        Self::of(Kind::Invalid, &error).hint_if(hint)
    }
}

impl From<KeyNamesError> for Failure {
    fn from(error: KeyNamesError) -> Self {
        match error {
            KeyNamesError::Credential(error) => error.into(),
            error @ KeyNamesError::NotSet { .. } => Self::of(Kind::Invalid, &error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let full = error
            .is_disk_full()
            .then_some("make room: holdfast cache prune --all");
        Self::of(Kind::Machine, &error).hint_if(full)
    }
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        let hint = match &error {
            CacheError::NoRoomForPin { .. } => {
                "unpin another image, or set a larger cache_limit in the configuration"
            }
            CacheError::TooManyPins { .. } => "unpin another image",
            _ => return Self::of(Kind::Machine, &error),
        };
        Self::of(Kind::Machine, &error).hint(hint)
    }
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Self {
        let (kind, hint) = (mount_kind(&error), error.hint());
        Self::of(kind, &error).hint_if(hint)
    }
}

fn mount_kind(error: &MountError) -> Kind {
    match error {
        MountError::Image { .. } => Kind::Unsupported,
        _ => Kind::Machine,
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        let kind = match &error {
            LaunchError::Interrupted { .. } => Kind::Interrupted,
            LaunchError::Mount(error) => mount_kind(error),
            _ => Kind::Machine,
        };
        let (hint, code) = (error.hint(), error.exit_code());
        let mut failure = Self::of(kind, &error).hint_if(hint);
        failure.exit_code = Some(code);
        failure
    }
}
