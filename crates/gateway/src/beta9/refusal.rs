//! Problems as both versions of the client show them.
//!
//! A reply with a field that the client prints carries the text there; otherwise the status does,
//! and that is UNKNOWN: of all codes the only one whose text both versions print. Its first line is
//! the title of what they print.

use std::fmt;
use std::sync::Arc;

use beta9_protocol::{gateway, secret};
use tonic::{Code, Response, Status};

use super::Answer;
use crate::problem::{Kind, Problem};
use crate::watch::Told;

/// Longest text, as it is sent in a header. Clients drop texts of more than 8 KiB.
const TEXT_LIMIT_BYTES: usize = 6 * 1024;
/// What stands where a text was cut.
const CUT: &str = "...";
/// What a byte takes that is no letter or digit, and so may be escaped.
const ESCAPED_BYTES: usize = 3;
/// The text of UNKNOWN that clients take for a broken connection.
const BROKEN_CONNECTION: &str = "Stream removed";

/// A reply with a place for the reason, and a client that prints what stands there.
pub(super) trait Refusable: Default {
    fn refused(reason: String) -> Self;
}

macro_rules! refusable {
    ($($message:ty: $field:ident;)+) => {$(
        impl Refusable for $message {
            fn refused(reason: String) -> Self {
                Self { $field: reason, ..Self::default() }
            }
        }
    )+};
}

refusable! {
    gateway::CreateTokenResponse: err_msg;
    gateway::ListTokensResponse: err_msg;
    gateway::ToggleTokenResponse: err_msg;
    gateway::DeleteTokenResponse: err_msg;
    gateway::ListTasksResponse: err_msg;
    gateway::StopTasksResponse: err_msg;
    gateway::ListContainersResponse: error_msg;
    gateway::StopContainerResponse: error_msg;
    gateway::CheckpointContainerResponse: error_msg;
    secret::CreateSecretResponse: err_msg;
    secret::UpdateSecretResponse: err_msg;
    secret::DeleteSecretResponse: err_msg;
    secret::GetSecretResponse: err_msg;
    secret::ListSecretsResponse: err_msg;
}

/// The answer of a method whose reply has a place for the reason.
pub(super) fn reply<T: Refusable>(result: Result<T, Problem>) -> Response<T> {
    match result {
        Ok(reply) => Response::new(reply),
        Err(problem) => {
            let told = Told(problem.clone());
            let mut response = Response::new(T::refused(text(problem)));
            response.extensions_mut().insert(told);
            response
        }
    }
}

/// The same, where a client asks again by itself as long as an answer may come in a moment.
pub(super) fn reply_or_retry<T: Refusable>(result: Result<T, Problem>) -> Answer<T> {
    match result {
        Err(problem) if problem.kind == Kind::Unavailable => Err(transient(problem)),
        result => Ok(reply(result)),
    }
}

/// The answer of a method whose reply has no such place, or whose clients print nothing of it, or
/// go on as if nothing were.
pub(super) fn answer<T>(result: Result<T, Problem>) -> Answer<T> {
    result.map(Response::new).map_err(status)
}

/// What is final, as a status.
pub(super) fn status(problem: Problem) -> Status {
    let code = match problem.kind {
        Kind::Unauthenticated => Code::Unauthenticated,
        _ => Code::Unknown,
    };
    with_problem(Status::new(code, text(problem.clone())), problem)
}

/// What is final or not, as a status, for a client that asks again by itself when it is not.
pub(super) fn transient(problem: Problem) -> Status {
    match problem.kind {
        Kind::Unavailable => with_problem(Status::unavailable(text(problem.clone())), problem),
        _ => status(problem),
    }
}

/// A status that says what it tells to who looks at it here. Clients are not sent that.
fn with_problem(mut status: Status, problem: Problem) -> Status {
    status.set_source(Arc::new(problem));
    status
}

/// What this gateway does not do.
pub(super) fn unsupported(message: impl fmt::Display) -> Problem {
    Problem::new(Kind::Unsupported, message)
}

/// Refuses what is asked for of what this gateway does not do, by the client's names.
pub(super) fn refuse(parts: &[(&str, bool)], hint: &str) -> Result<(), Problem> {
    let asked = parts.iter().filter(|(_, is_asked)| *is_asked);
    let names: Vec<_> = asked.map(|(name, _)| *name).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(unsupported(format!("not supported: {}", names.join(", "))).hint(hint))
}

/// A method that this gateway has, and does not do.
pub(super) fn not_served(message: &str) -> Status {
    status(unsupported(message))
}

/// A title, and below it what a person can do.
pub(super) fn text(problem: Problem) -> String {
    let mut text = problem.message;
    if text == BROKEN_CONNECTION {
        text.push('.');
    }
    if let Some(hint) = problem.hint {
        text.push('\n');
        text.push_str(&hint);
    }
    fit(text)
}

fn fit(mut text: String) -> String {
    let mut sent_bytes = 0;
    let first_too_much = text.char_indices().find(|(_, character)| {
        let is_plain = character.is_ascii_alphanumeric();
        let bytes = character.len_utf8();
        sent_bytes += if is_plain {
            bytes
        } else {
            ESCAPED_BYTES * bytes
        };
        sent_bytes > TEXT_LIMIT_BYTES
    });
    if let Some((position, _)) = first_too_much {
        text.truncate(position);
        text.push_str(CUT);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_texts_that_clients_show() {
        let known = |kind| Problem::new(kind, "title");
        for kind in Kind::ALL {
            let expected = match kind {
                Kind::Unauthenticated => Code::Unauthenticated,
                _ => Code::Unknown,
            };
            let status = status(known(kind).hint("what to do"));
            assert_eq!(status.code(), expected, "{kind:?}");
            assert_eq!(status.message(), "title\nwhat to do", "{kind:?}");
        }
        assert_eq!(status(known(Kind::Invalid)).message(), "title");
        let broken = Problem::invalid(BROKEN_CONNECTION);
        assert_ne!(status(broken).message(), BROKEN_CONNECTION);
    }

    #[test]
    fn texts_fit_into_a_header() {
        for (text, kept) in [
            ("a".repeat(TEXT_LIMIT_BYTES), TEXT_LIMIT_BYTES),
            ("a".repeat(TEXT_LIMIT_BYTES + 1), TEXT_LIMIT_BYTES),
            (" ".repeat(TEXT_LIMIT_BYTES), TEXT_LIMIT_BYTES / 3),
            ("\u{e9}".repeat(TEXT_LIMIT_BYTES), TEXT_LIMIT_BYTES / 3),
        ] {
            let fitted = fit(text.clone());
            let shown = fitted.strip_suffix(CUT).unwrap_or(&fitted);
            assert_eq!(shown, &text[..kept]);
            assert_eq!(fitted.ends_with(CUT), kept < text.len());
            let headers = Status::unknown(fitted)
                .into_http::<()>()
                .into_parts()
                .0
                .headers;
            assert!(headers["grpc-message"].len() <= TEXT_LIMIT_BYTES + CUT.len());
        }
    }
}
