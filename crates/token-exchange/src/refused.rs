//! What was sent before and how the registry refused it, and what that leaves to do.

use credential::auth::{AuthError, AuthScheme, Rejection};
use reference::Registry;
use registry_client::{Challenge, challenge};

use crate::asker::{Asker, Pass};
use crate::demand::{self, Demand};
use crate::mint::{Minted, wanted_scope};

/// What was sent before and how it was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) rejection: Rejection,
    pub(crate) previous: Option<Minted>,
}

/// The question that is asked again: who asks, for what, and what is demanded for it.
pub(crate) struct Question<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) asker: &'a Asker,
    pub(crate) demand: &'a Demand,
    pub(crate) repository: &'a str,
}

/// What a refusal leaves to do.
enum Left {
    /// Something else can be sent.
    ToTry,
    /// There is nothing to send.
    NoLogin,
    /// What was sent is good, and not for this.
    NotAllowed,
    TokenIsBad,
    PasswordIsBad,
}

impl Refused {
    pub(crate) fn challenges(&self) -> Vec<Challenge> {
        challenge::parse(self.rejection.challenges.iter().map(String::as_str))
    }

    /// Whether sending something again could help at all.
    pub(crate) fn check_worth_trying(&self, question: &Question<'_>) -> Result<(), AuthError> {
        let (registry, repository) = (question.registry, question.repository);
        match self.left(question) {
            Left::ToTry => Ok(()),
            Left::NoLogin => Err(AuthError::NoPermission {
                message: format!("{registry} demands a login"),
            }),
            Left::NotAllowed => Err(AuthError::NoPermission {
                message: format!("{registry} does not allow the credential to pull {repository}"),
            }),
            Left::TokenIsBad => Err(AuthError::BadCredential {
                message: format!("{registry} refused the token; it may have expired"),
            }),
            Left::PasswordIsBad => Err(AuthError::BadCredential {
                message: format!("{registry} refused the user name or password"),
            }),
        }
    }

    fn left(&self, question: &Question<'_>) -> Left {
        let Some(previous) = &self.previous else {
            return Left::ToTry;
        };
        match previous.scheme {
            AuthScheme::Anonymous => left_after_nothing(question),
            AuthScheme::Bearer(_) => self.left_after_token(previous, question),
            AuthScheme::Basic { .. } => self.left_after_password(previous, question),
        }
    }

    fn left_after_token(&self, previous: &Minted, question: &Question<'_>) -> Left {
        let is_same_scope = match question.demand {
            Demand::Token(demand) => previous.scope == wanted_scope(demand, question.repository),
            _ => false,
        };
        if is_same_scope && demand::is_insufficient(&self.challenges()) {
            return Left::NotAllowed;
        }
        if previous.is_pass_of(question.asker) {
            return Left::TokenIsBad;
        }
        Left::ToTry
    }

    fn left_after_password(&self, previous: &Minted, question: &Question<'_>) -> Left {
        let is_same = *question.demand == Demand::Basic && previous.is_pass_of(question.asker);
        match self.rejection.status {
            _ if !is_same => Left::ToTry,
            401 => Left::PasswordIsBad,
            _ => Left::NotAllowed,
        }
    }
}

fn left_after_nothing(question: &Question<'_>) -> Left {
    match (question.demand, &question.asker.pass) {
        (Demand::Basic, Pass::Nothing) => Left::NoLogin,
        _ => Left::ToTry,
    }
}
