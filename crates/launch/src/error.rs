//! Why a container did not run to its end.

use std::io;

use container::{BundleError, NetworkError, RootfsError, RunDirError, RunError, RuntimeError};
use image_mount::MountError;

/// Variants by the part that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Directory(#[from] RunDirError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("cannot {action}")]
    Io {
        action: &'static str,
        source: io::Error,
    },
    /// Whoever asked for it has found that it may not begin, and knows why.
    #[error("the start was called off")]
    NoLeave,
    /// Somebody asked for the end before the command had started.
    #[error("interrupted before the command started")]
    Interrupted { signal: i32 },
}

impl LaunchError {
    /// What `run` exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Run(error) => error.exit_code(),
            Self::Interrupted { signal } => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            _ => 125,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Mount(error) => error.hint().map(str::to_owned),
            Self::Runtime(_) => Some("apt-get install runc".to_owned()),
            Self::Directory(RunDirError::UserNamespace(error)) => Some(namespace_hint(error)),
            Self::Network(NetworkError::HostWithoutUsers) => Some("add --userns host".to_owned()),
            Self::Run(RunError::Bundle(error)) => bundle_hint(error),
            Self::Directory(_) => Some("run as root; `holdfast doctor` tells more".to_owned()),
            _ => None,
        }
    }
}

/// Without ids to give, which a machine inside another may be, a higher limit is of no use.
fn namespace_hint(error: &io::Error) -> String {
    let fix = match error.kind() {
        io::ErrorKind::PermissionDenied => "set userns_first_id to ids that /proc/self/uid_map has",
        _ => "raise sysctl user.max_user_namespaces",
    };
    format!("{fix}, or give up the protection with --userns host")
}

/// What a user namespace cannot do has one way out.
fn bundle_hint(error: &BundleError) -> Option<String> {
    match error {
        BundleError::UnmappedId(_) => Some("add --userns host".to_owned()),
        BundleError::Rootfs(RootfsError::VolumeOwners { .. }) => {
            let reason = "its filesystem, or one mounted below it, has no id-mapped mounts";
            Some(format!("{reason}: add --userns host"))
        }
        _ => None,
    }
}
