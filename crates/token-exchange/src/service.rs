//! Asking a token service, and what its refusal is about.
//!
//! A refusal for one repository may be one of the pass or of the repository, and few services tell
//! them apart: the pass is shown once more, for nothing. Of a pass that was refused so this is not
//! repeated, since accounts are locked after a few wrong passwords.

use std::sync::atomic::{AtomicU64, Ordering};

use credential::auth::AuthError;
use dial::{HttpClient, Url};
use jiff::Timestamp;

use crate::asker::{Asker, Pass};
use crate::demand::TokenDemand;
use crate::login::Login;
use crate::realm::authority;
use crate::reply::Token;
use crate::wire;

/// A token service that the pass may be shown to.
pub(crate) struct TokenService<'a> {
    pub(crate) http: &'a HttpClient,
    pub(crate) realm: &'a Url,
    pub(crate) demand: &'a TokenDemand,
    /// Counts the requests of all.
    pub(crate) requests: &'a AtomicU64,
}

impl TokenService<'_> {
    /// A token for `scope`, or one for nothing.
    pub(crate) async fn ask(
        &self,
        login: &Login,
        asker: &Asker,
        scope: Option<&str>,
        now: Timestamp,
    ) -> Result<Token, AuthError> {
        match (self.ask_as(asker, scope, now).await, scope) {
            (Err(error @ AuthError::BadCredential { .. }), Some(scope)) if !login.is_refuted() => {
                Err(self.blamed(login, asker, scope, now, error).await)
            }
            (asked, _) => asked,
        }
    }

    /// What a refusal of the pass for this scope is about. Of many scopes that are refused at once,
    /// one finds out.
    async fn blamed(
        &self,
        login: &Login,
        asker: &Asker,
        scope: &str,
        now: Timestamp,
        refusal: AuthError,
    ) -> AuthError {
        let _turn = login.turn_to_blame().await;
        if login.is_refuted() {
            return refusal;
        }
        match self.ask_as(asker, None, now).await {
            // No proof of the pass: some services give a token for nothing to anybody.
            Ok(_) => {
                let service = authority(self.realm);
                AuthError::NoPermission {
                    message: format!(
                        "token service {service} takes the credential and gives it no token for \
                         {scope}"
                    ),
                }
            }
            Err(error) if error.is_transient() => error,
            Err(AuthError::BadCredential { .. }) => {
                login.refute();
                refusal
            }
            // The service may not answer such a question at all, whatever the pass.
            Err(_) => refusal,
        }
    }

    /// As docker does with an identity token, and where the service knows no such thing, as
    /// Artifactory, as containerd does then: as the password of nobody. One that a cloud has just
    /// given is for its own service, which knows it.
    async fn ask_as(
        &self,
        asker: &Asker,
        scope: Option<&str>,
        now: Timestamp,
    ) -> Result<Token, AuthError> {
        let asked = self.send(&asker.pass, scope, now).await;
        let Pass::IdentityToken(token) = &asker.pass else {
            return asked;
        };
        let refusal = match asked {
            Err(error @ (AuthError::BadCredential { .. } | AuthError::Refused { .. }))
                if !asker.life.is_renewable =>
            {
                error
            }
            asked => return asked,
        };
        let password = Pass::Password {
            username: String::new(),
            password: token.clone(),
        };
        let asked = self.send(&password, scope, now).await;
        asked.map_err(|error| if error.is_transient() { error } else { refusal })
    }

    async fn send(
        &self,
        pass: &Pass,
        scope: Option<&str>,
        now: Timestamp,
    ) -> Result<Token, AuthError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        wire::ask(self.http, self.realm, self.demand, scope, pass, now).await
    }
}
