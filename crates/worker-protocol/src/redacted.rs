//! `Debug` of the messages that carry secrets, or what users send and get: only what is safe.
//!
//! Their names are in `build.rs` too, which keeps a `Debug` from being made for them.

use std::fmt::{Debug, Formatter, Result};

use crate::generated as message;

/// Prints the fields that are named, and that there are others.
macro_rules! show {
    ($($message:ident: $($field:ident)*;)*) => {$(
        impl Debug for message::$message {
            fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
                formatter
                    .debug_struct(stringify!($message))
                    $(.field(stringify!($field), &self.$field))*
                    .finish_non_exhaustive()
            }
        }
    )*};
}

show! {
    Setup: handler concurrency;
    Call: container attempt;
    CallResult: delivery attempt outcome;
    Output: delivery attempt stream;
    Exception: ;
    Ended: delivery cause exit_code;
    CodePiece: ;
    IndexPiece: ;
    ReadPiece: ;
    JoinQuestion: name;
    RegistryAuth: serial remaining_ms;
    BlobLocation: serial remaining_ms;
    SharedLayer: remaining_ms plain_http;
    Basic: ;
    Stamp: number;
    Trace: ;
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const SECRET: &str = "hunter2";

    #[test]
    fn secrets_are_not_printed() {
        let start = message::Start {
            setup: Some(message::Setup {
                environment: [("TOKEN".to_owned(), SECRET.to_owned())].into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let call = message::Call {
            payload: Bytes::from_static(SECRET.as_bytes()),
            nonce: Bytes::from_static(SECRET.as_bytes()),
            ..Default::default()
        };
        let result = message::CallResult {
            exception: Some(message::Exception {
                message: SECRET.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let basic = message::Basic {
            password: SECRET.to_owned(),
            ..Default::default()
        };
        let bearer = message::registry_auth::Scheme::Bearer(SECRET.to_owned());
        let auths = [message::registry_auth::Scheme::Basic(basic), bearer].map(|scheme| {
            let auth = message::RegistryAuth {
                scheme: Some(scheme),
                ..Default::default()
            };
            message::AuthAnswer {
                answer: Some(message::auth_answer::Answer::Auth(auth)),
            }
        });
        let location = message::BlobLocation {
            url: SECRET.to_owned(),
            ..Default::default()
        };
        let shared = message::SharedLayer {
            url: SECRET.to_owned(),
            key: SECRET.to_owned(),
            ..Default::default()
        };
        let join = message::JoinQuestion {
            token: SECRET.to_owned(),
            ..Default::default()
        };
        let trace = message::Trace {
            touches: Bytes::from_static(SECRET.as_bytes()),
        };
        let messages: [&dyn Debug; 9] = [
            &start, &call, &result, &auths[0], &auths[1], &location, &shared, &join, &trace,
        ];
        for message in messages {
            let printed = format!("{message:?}");
            assert!(!printed.contains(SECRET) && printed.len() > 10, "{printed}");
            assert!(!printed.contains("104, 117, 110"), "{printed}");
        }
    }
}
