//! What a container's mount reads with, as its worker is answered that asks for it.

use credential::ExposeSecret;
use credential::auth::{AuthError, AuthRequest, AuthScheme, RegistryAuth, Rejection};
use jiff::Timestamp;
use tonic::Status;
use worker_protocol::{
    AuthAnswer, AuthQuestion, Basic, Denial, auth_answer, denial, registry_auth,
};

use super::connection::Connection;

impl Connection {
    pub(super) async fn answer_auth(&self, question: AuthQuestion) -> Result<AuthAnswer, Status> {
        let container = self.container(question.delivery.as_ref(), "auth").await?;
        let reading = &container.given.reading;
        let is_own = question.registry == reading.registry.as_str()
            && question.repository == reading.repository;
        if !is_own {
            let reason = "the container reads another origin";
            return Err(self.forbid(&container, "auth", reason).await);
        }
        let request = AuthRequest {
            registry: &reading.registry,
            repository: &reading.repository,
            rejected: question.rejected.map(rejection),
        };
        let answer = match reading.auth.auth(request).await {
            Ok(auth) => auth_answer::Answer::Auth(wire_auth(auth)),
            Err(error) => auth_answer::Answer::Denial(wire_denial(&error)),
        };
        Ok(AuthAnswer {
            answer: Some(answer),
        })
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

fn wire_denial(error: &AuthError) -> Denial {
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
