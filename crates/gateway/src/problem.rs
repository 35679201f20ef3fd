//! Why an operation did not do what was asked, as whoever asked may know it.
//!
//! Internals stay inside: what is ours to mend is logged here, where it is handled, and told as
//! `internal`. Neither face adds to a message.

mod causes;

use std::error::Error;
use std::fmt;

use broker::BrokerError;
use control_store::StoreError;

use crate::foreign;

/// What the caller would do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Ask for something else.
    Invalid,
    /// Show a token, or another one.
    Unauthenticated,
    /// Ask somebody for the right.
    Denied,
    NotFound,
    /// Look at what is there.
    Conflict,
    /// Ask for less.
    TooLarge,
    /// Do without.
    Unsupported,
    /// Ask later.
    Busy,
    /// Tell whoever runs the gateway.
    Internal,
    /// Ask again.
    Unavailable,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Invalid,
        Self::Unauthenticated,
        Self::Denied,
        Self::NotFound,
        Self::Conflict,
        Self::TooLarge,
        Self::Unsupported,
        Self::Busy,
        Self::Internal,
        Self::Unavailable,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Unsupported => "unsupported",
            Self::Busy => "busy",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }
}

/// By what a caller is refused. Problems that are one have a row in the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No token is shown, or one that does not count.
    Token,
    /// The token is for other things.
    Scope,
    /// The workspace has nothing of this name, whoever else may have.
    Name,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub kind: Kind,
    pub message: String,
    pub hint: Option<String>,
    /// There where the caller may not, and not only cannot.
    pub refusal: Option<Refusal>,
}

impl Problem {
    pub fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
            hint: None,
            refusal: None,
        }
    }

    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(Kind::Invalid, message)
    }

    pub fn not_found(message: impl fmt::Display) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// The caller's workspace has nothing of an id, a digest or a name.
    pub(crate) fn not_own(message: impl fmt::Display) -> Self {
        Self::not_found(message).refuses(Refusal::Name)
    }

    #[must_use]
    pub(crate) fn refuses(mut self, refusal: Refusal) -> Self {
        self.refusal = Some(refusal);
        self
    }

    /// The same for whoever asks whether something is there: that it is not refuses nothing.
    #[must_use]
    pub(crate) fn into_answer(mut self) -> Self {
        self.refusal = self.refusal.filter(|refusal| *refusal != Refusal::Name);
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    #[must_use]
    pub(crate) fn hint_if(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    /// What others than we ourselves have said, made safe to show.
    pub(crate) fn told(kind: Kind, error: &dyn fmt::Display) -> Self {
        Self::new(kind, foreign::shown(&error.to_string()))
    }

    /// Not what a caller should wait out unseen: somebody must make room first.
    fn disk_full() -> Self {
        Self::new(Kind::Internal, "the disk of the gateway is full")
            .hint("whoever runs it can make room for its data directory")
    }

    /// Where the root key is kept is no caller's affair.
    fn key_service_away(error: &dyn Error) -> Self {
        tracing::warn!(error = chain(error), "the key service does not answer");
        Self::new(Kind::Unavailable, "secrets cannot be opened at the moment")
            .hint("try again; whoever runs the gateway finds the reason in its log")
    }

    /// Nor is the server that has the vault and the state.
    fn database_away(error: &dyn Error) -> Self {
        tracing::warn!(error = chain(error), "the database does not answer");
        Self::new(
            Kind::Unavailable,
            "the gateway's database does not answer at the moment",
        )
        .hint("try again; whoever runs the gateway finds the reason in its log")
    }

    /// A defect or a broken machine: the log has it all, the caller that it is so.
    pub(crate) fn internal(error: &dyn Error) -> Self {
        tracing::error!(error = chain(error), "an operation failed");
        Self::new(Kind::Internal, "the gateway failed")
            .hint("its log says why; whoever runs it can read it")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for Problem {}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::TooLong { .. } => Self::new(Kind::TooLarge, error),
            StoreError::NoImage { .. } => Self::not_found(error),
            StoreError::Busy { .. } => Self::new(Kind::Unavailable, "the store is busy"),
            error if error.is_disk_full() => Self::disk_full(),
            error if error.kind() == "unreachable" => Self::database_away(error),
            _ => Self::internal(&error),
        }
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        if let BrokerError::Auth { scope, source } = error {
            return causes::of_credential(scope, source);
        }
        if let BrokerError::Store(error) = error {
            return error.into();
        }
        if error.is_disk_full() {
            return Self::disk_full();
        }
        if error.is_database_away() {
            return Self::database_away(&error);
        }
        // The vault names its database, which is not a caller's to know.
        if matches!(&error, BrokerError::Vault(inner) if inner.kind() == "busy") {
            return Self::new(Kind::Unavailable, "the vault is busy");
        }
        let kind = match error.kind() {
            "bad_input" => Kind::Invalid,
            "not_found" => Kind::NotFound,
            "busy" => Kind::Unavailable,
            "unreachable" => return Self::key_service_away(&error),
            _ => return Self::internal(&error),
        };
        Self {
            hint: error.hint(),
            ..Self::new(kind, error)
        }
    }
}

/// The error and all that caused it.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use vault::{RootKey, Vault, VaultError, VaultPlace};

    use super::*;

    /// Nobody listens at this port.
    const AWAY: &str = "postgres://canary@127.0.0.1:1/canary?sslmode=disable";

    #[expect(
        clippy::disallowed_methods,
        reason = "what keeps the key is not tested here"
    )]
    fn root_key(file: &std::path::Path) -> RootKey {
        RootKey::in_this_process(file)
    }

    #[tokio::test]
    async fn a_vault_whose_server_is_away_or_busy_may_be_asked_again() {
        let directory = tempfile::tempdir().unwrap();
        let place = VaultPlace {
            data: directory.path().join("data"),
            server: Some(database::Server::parse(AWAY).unwrap()),
            root_key: root_key(&directory.path().join("root.key")),
        };
        let away = Vault::open(place).await.unwrap_err();
        let busy = VaultError::Busy {
            subject: AWAY.to_owned(),
        };
        for (error, says) in [(away, "database does not answer"), (busy, "vault is busy")] {
            let problem = Problem::from(BrokerError::Vault(error));
            assert_eq!(problem.kind, Kind::Unavailable, "{problem}");
            assert!(problem.message.contains(says), "{problem}");
            assert!(!format!("{problem:?}").contains("canary"), "{problem:?}");
        }
    }
}
