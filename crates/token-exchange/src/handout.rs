//! What programs of others are given, which speak to registries and token services by themselves: a
//! user name and a password. Minted where a cloud gives one for the credential, and otherwise the
//! stored one.

use std::fmt;

use credential::auth::AuthError;
use credential::{ExposeSecret, Fields, SecretString, token_username};
use jiff::Timestamp;

use crate::asker::Pass;
use crate::clouds::Clouds;
use crate::login::Login;
use crate::provider::{self, IDENTITY_TOKEN_USER};

/// A user name and a password, for a registry or its token service.
#[derive(Clone)]
pub struct UserPassword {
    pub username: String,
    pub password: SecretString,
    /// When it ends, where that is known.
    pub not_after: Option<Timestamp>,
    /// Whether a cloud has made it of what is stored.
    pub is_minted: bool,
}

impl UserPassword {
    /// Whether the password is an identity token, which not every program can use.
    pub fn is_identity_token(&self) -> bool {
        self.username == IDENTITY_TOKEN_USER
    }
}

impl fmt::Debug for UserPassword {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("UserPassword")
            .field("not_after", &self.not_after)
            .field("is_minted", &self.is_minted)
            .finish_non_exhaustive()
    }
}

pub(crate) async fn user_password(
    clouds: &Clouds,
    login: &Login,
) -> Result<UserPassword, AuthError> {
    let registry = &login.endpoint.registry;
    let credential = login.identity.credential.open().await?;
    if let Fields::Node(_) = credential.fields() {
        return Err(AuthError::Refused {
            message: format!(
                "the node identity for {registry} pulls from one repository at a time, and other \
                 programs ask for a whole registry"
            ),
        });
    }
    let presented = provider::of(&credential, login)?.present(clouds).await?;
    let (username, password) = match presented.pass {
        Pass::Password { username, password } => (username, password),
        Pass::IdentityToken(token) => {
            // Azure's registries take theirs as a password too, under a name of theirs.
            let service = token_username(registry, token.expose_secret());
            let username = service.unwrap_or(IDENTITY_TOKEN_USER).to_owned();
            (username, token)
        }
        Pass::Role(_) => {
            return Err(AuthError::Refused {
                message: format!(
                    "the AWS role for {registry} pulls from one repository at a time, and other \
                     programs ask for a whole registry"
                ),
            });
        }
        Pass::Bearer(_) | Pass::Nothing => {
            return Err(AuthError::Refused {
                message: format!(
                    "what is stored for {registry} is no user name and password, and other \
                     programs take nothing else"
                ),
            });
        }
    };
    Ok(UserPassword {
        username,
        password,
        not_after: presented.not_after,
        is_minted: presented.is_renewable,
    })
}
