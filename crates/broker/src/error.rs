//! What can go wrong in the broker, by what the caller would do about it.

use std::sync::Arc;

use control_store::StoreError;
use credential::auth::AuthError;
use credential::{ParseSecretNameError, RegistryScope, SecretName};
use identity_issuer::{NoKeySet, TooEarly};
use reference::Registry;
use vault::VaultError;

use crate::binding::BindingError;

/// Why the broker did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The registry's, or our own policy's, answer to the credential of this scope.
    #[error("credential for {scope}")]
    Auth {
        scope: RegistryScope,
        source: AuthError,
    },
    #[error("no credential for {scope} in this workspace")]
    NoCredential { scope: RegistryScope },
    #[error("credential for {scope} is not shared with {recipient}")]
    NotShared {
        scope: RegistryScope,
        recipient: &'static str,
    },
    /// Who asks by host cannot say which is meant.
    #[error("several credentials of {registry} are shared with {recipient}, which asks for one")]
    SeveralShared {
        registry: Registry,
        recipient: &'static str,
    },
    #[error("credential for {scope} is not for {image}")]
    OtherScope { scope: RegistryScope, image: String },
    /// A cloud's credential, which has more parts than a name and a secret.
    #[error("credential for {scope} is more than a password")]
    NotAPassword { scope: RegistryScope },
    #[error("the new credential for {scope} breaks {count} repositories in use, first {first}")]
    WouldBreak {
        scope: RegistryScope,
        count: usize,
        first: String,
    },
    #[error("credential for {scope} was changed by somebody else meanwhile")]
    ChangedMeanwhile { scope: RegistryScope },
    /// Versions are erased when nothing reads with them any more.
    #[error("no version before the current one is there of the credential for {scope}")]
    NothingBefore { scope: RegistryScope },
    #[error("public access to {scope} needs no login")]
    NothingToSeal { scope: RegistryScope },
    #[error("sealed credential for {scope} cannot be used")]
    Unreadable {
        scope: RegistryScope,
        source: Box<BindingError>,
    },
    #[error("CA bundle for {scope} is not a PEM text")]
    BadCa { scope: RegistryScope },
    #[error("this installation issues no identity tokens")]
    NoIssuer,
    /// Meant to be without a secret, or one was forgotten.
    #[error(
        "credential for {scope} has no secret, and this installation issues no identity tokens"
    )]
    NoSecret {
        scope: RegistryScope,
        absent: &'static str,
    },
    #[error(transparent)]
    IssuerTooEarly(#[from] TooEarly),
    #[error("keys of the issuer change without end")]
    IssuerBusy,
    /// It is none, though it opens.
    #[error("the sealed secret of the shared cache cannot be used")]
    SharedCacheDamaged,
    #[error("sealed keys of the issuer cannot be used")]
    IssuerUnreadable(#[from] NoKeySet),
    #[error("sealed keys of the issuer cannot be used")]
    IssuerDamaged(#[source] VaultError),
    /// What was found a moment ago, and is not tried again yet.
    #[error(transparent)]
    IssuerFailed(Arc<BrokerError>),
    #[error(transparent)]
    Name(#[from] ParseSecretNameError),
    #[error("{} is the name of a registry credential", .name.as_str())]
    NameOfRegistry { name: SecretName },
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BrokerError {
    /// One word for machines: what sort of answer this is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Auth { source, .. } => auth_kind(source),
            Self::WouldBreak { .. } => "no_permission",
            Self::NothingBefore { .. } => "ended",
            Self::NoCredential { .. } | Self::NotShared { .. } | Self::SeveralShared { .. } => {
                "not_found"
            }
            Self::OtherScope { .. }
            | Self::NotAPassword { .. }
            | Self::NothingToSeal { .. }
            | Self::BadCa { .. }
            | Self::NoIssuer
            | Self::NoSecret { .. }
            | Self::IssuerTooEarly(_)
            | Self::Name(_)
            | Self::NameOfRegistry { .. } => "bad_input",
            Self::ChangedMeanwhile { .. } | Self::IssuerBusy => "busy",
            Self::Unreadable { .. }
            | Self::IssuerUnreadable(_)
            | Self::IssuerDamaged(_)
            | Self::SharedCacheDamaged => "damaged",
            Self::IssuerFailed(error) => error.kind(),
            Self::Vault(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }

    /// Whether there was no room to record it.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Vault(error) => error.is_disk_full(),
            Self::Store(error) => error.is_disk_full(),
            Self::IssuerFailed(error) => error.is_disk_full(),
            _ => false,
        }
    }

    /// Whether the server of a database was not to be reached.
    pub fn is_database_away(&self) -> bool {
        match self {
            Self::Vault(error) => error.is_database_away(),
            Self::Store(error) => error.kind() == "unreachable",
            Self::IssuerFailed(error) => error.is_database_away(),
            _ => false,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Auth { scope, source } => return auth_hint(scope, source),
            Self::NoCredential { .. } => "`holdfast credentials list` shows what there is",
            Self::NotShared { scope, recipient } => {
                return Some(format!(
                    "`holdfast credentials share {scope} --with {recipient}` has it handed out"
                ));
            }
            Self::SeveralShared { .. } => "share the one of the whole registry, or a single one",
            Self::WouldBreak { .. } => {
                "`--dry-run` lists them; `--force` takes the new one all the same"
            }
            Self::ChangedMeanwhile { .. } => "see `holdfast credentials history`, and try again",
            Self::NothingBefore { .. } => {
                "versions are erased once nothing reads with them; rotate with its password again"
            }
            Self::OtherScope { .. } => {
                "name a scope that covers the image, or leave --credential away"
            }
            Self::NotAPassword { scope } | Self::Unreadable { scope, .. } => {
                return Some(format!(
                    "run `holdfast login {scope}` with the whole credential"
                ));
            }
            Self::NothingToSeal { .. } => "pull without a login, or with --credential none",
            Self::BadCa { .. } => "give a file that starts with -----BEGIN CERTIFICATE-----",
            Self::NoIssuer => {
                "set `url` under `[issuer]` in the configuration, or give --issuer-url: the https \
                 URL at which clouds find its keys"
            }
            Self::NoSecret { absent, .. } => {
                return Some(format!(
                    "give {absent}, or, to log in without a secret, set `url` under `[issuer]` in \
                     the configuration"
                ));
            }
            Self::IssuerTooEarly(_) => {
                "wait, or give --replace-all where the keys may be in wrong hands"
            }
            Self::IssuerUnreadable(_) | Self::IssuerDamaged(_) => {
                "`holdfast issuer rotate --replace-all` makes new ones"
            }
            Self::SharedCacheDamaged => "restore the vault from its backup",
            Self::IssuerFailed(error) => return error.hint(),
            Self::IssuerBusy => "try again",
            Self::Name(_) => return None,
            Self::NameOfRegistry { .. } => "use `holdfast login` and `holdfast logout`",
            Self::Vault(error) => return error.hint(),
            Self::Store(error) => return error.hint().map(str::to_owned),
        };
        Some(text.to_owned())
    }
}

pub(crate) fn auth_kind(error: &AuthError) -> &'static str {
    match error {
        AuthError::BadCredential { .. } => "bad_credential",
        AuthError::NoPermission { .. } => "no_permission",
        AuthError::RateLimited { .. } => "rate_limited",
        AuthError::Unreachable { .. } => "unreachable",
        AuthError::Tls { .. } => "tls",
        AuthError::Revoked { .. } => "revoked",
        AuthError::Refused { .. } => "refused",
        _ => "internal",
    }
}

fn auth_hint(scope: &RegistryScope, error: &AuthError) -> Option<String> {
    match error {
        AuthError::BadCredential { .. } | AuthError::Revoked { .. } => Some(format!(
            "run `holdfast login {scope}` with a valid credential"
        )),
        other => other.hint().map(str::to_owned),
    }
}

/// Says of a refusal that no secret was given, where a cloud saw our own token in its place.
pub(crate) fn about_absent_secret(error: AuthError, absent: Option<&str>) -> AuthError {
    match (absent, &error) {
        (
            Some(absent),
            AuthError::BadCredential { .. }
            | AuthError::NoPermission { .. }
            | AuthError::Refused { .. },
        ) => about(
            error,
            &format!("without {absent}, by an identity token of this installation"),
        ),
        _ => error,
    }
}

/// An error of the vault, where only one of auth can be given.
pub(crate) fn vault_auth_error(scope: &RegistryScope, error: &VaultError) -> AuthError {
    match error {
        VaultError::NotFound { .. } => revoked(scope),
        // It works again when there is room, as what cannot be reached may.
        error if error.is_disk_full() => AuthError::Unreachable {
            message: format!("credential for {scope}: the disk of the vault is full"),
        },
        // Of a key service or a database server that is away.
        error if error.kind() == "unreachable" => AuthError::Unreachable {
            message: format!("credential for {scope}: {}", chain(error)),
        },
        error => AuthError::Internal {
            message: format!("credential for {scope}: {}", chain(error)),
        },
    }
}

pub(crate) fn revoked(scope: &RegistryScope) -> AuthError {
    AuthError::Revoked {
        message: format!("credential for {scope} was removed"),
    }
}

/// Puts in front of an error whose credential it is about.
pub(crate) fn about(error: AuthError, subject: &str) -> AuthError {
    let with = |message: String| format!("{subject}: {message}");
    match error {
        AuthError::BadCredential { message } => AuthError::BadCredential {
            message: with(message),
        },
        AuthError::NoPermission { message } => AuthError::NoPermission {
            message: with(message),
        },
        AuthError::RateLimited {
            retry_after,
            message,
        } => AuthError::RateLimited {
            retry_after,
            message: with(message),
        },
        AuthError::Unreachable { message } => AuthError::Unreachable {
            message: with(message),
        },
        AuthError::Tls { message } => AuthError::Tls {
            message: with(message),
        },
        AuthError::Refused { message } => AuthError::Refused {
            message: with(message),
        },
        other => other,
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use vault::{RootKey, Vault, VaultPlace};

    use super::*;

    /// Nobody listens at this port.
    const AWAY: &str = "postgres://holdfast@127.0.0.1:1/holdfast?sslmode=disable";

    #[expect(
        clippy::disallowed_methods,
        reason = "what keeps the key is not tested here"
    )]
    fn root_key(file: &std::path::Path) -> RootKey {
        RootKey::in_this_process(file)
    }

    #[tokio::test]
    async fn a_vault_whose_server_is_away_has_not_refused_a_credential() {
        let directory = tempfile::tempdir().unwrap();
        let place = VaultPlace {
            data: directory.path().join("data"),
            server: Some(database::Server::parse(AWAY).unwrap()),
            root_key: root_key(&directory.path().join("root.key")),
        };
        let error = Vault::open(place).await.unwrap_err();
        let scope = RegistryScope::parse("r.example/acme").unwrap();
        let told = vault_auth_error(&scope, &error);
        assert!(matches!(told, AuthError::Unreachable { .. }), "{told:?}");
        assert!(BrokerError::Vault(error).is_database_away());
    }
}
