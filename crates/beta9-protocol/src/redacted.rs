//! `Debug` of the messages that carry secrets, or what users send and get: only what is safe.
//!
//! Their names are in `build.rs` too, which keeps a `Debug` from being made for them.

use std::fmt::{Debug, Formatter, Result};

use crate::{function, gateway, image, secret};

/// Prints the fields that are named, and that there are others.
macro_rules! show {
    ($($message:ty: $($field:ident)*;)*) => {$(
        impl Debug for $message {
            fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
                let name = stringify!($message).rsplit(':').next().unwrap_or_default().trim();
                formatter
                    .debug_struct(name)
                    $(.field(stringify!($field), &self.$field))*
                    .finish_non_exhaustive()
            }
        }
    )*};
}

show! {
    gateway::AuthorizeResponse: ok workspace_id error_msg;
    gateway::PutObjectRequest: hash object_metadata overwrite;
    gateway::CreateObjectResponse: ok object_id error_msg;
    gateway::GetOrCreateStubRequest: name stub_type app_name object_id image_id;
    gateway::MountPointConfig: bucket_name read_only;
    gateway::EndTaskRequest: task_id task_status container_id;
    gateway::SyncContainerWorkspaceRequest: container_id op;
    gateway::Token: token_id token_type active;
    image::VerifyImageBuildRequest: existing_image_uri image_id python_version;
    image::BuildImageRequest: existing_image_uri python_version;
    image::GitBuildSource: working_dir;
    function::FunctionInvokeRequest: stub_id headless;
    function::FunctionInvokeResponse: task_id done exit_code;
    secret::Secret: id name;
    secret::CreateSecretRequest: name hosts;
    secret::UpdateSecretRequest: name hosts clear_hosts;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use bytes::Bytes;

    use crate::{function, gateway, image, secret};

    const SECRET: &str = "hunter2";

    fn check(message: &impl Debug, expected: &str) {
        let printed = format!("{message:?}");
        assert!(!printed.contains(SECRET), "{printed}");
        assert_eq!(printed, expected);
    }

    #[test]
    fn secrets_are_not_printed() {
        let value = || SECRET.to_owned();
        check(
            &secret::GetSecretResponse {
                ok: true,
                secret: Some(secret::Secret {
                    name: "TOKEN".to_owned(),
                    value: value(),
                    ..Default::default()
                }),
                ..Default::default()
            },
            "GetSecretResponse { ok: true, err_msg: \"\", \
             secret: Some(Secret { id: \"\", name: \"TOKEN\", .. }) }",
        );
        check(
            &gateway::CreateTokenResponse {
                ok: true,
                token: Some(gateway::Token {
                    key: value(),
                    ..Default::default()
                }),
                ..Default::default()
            },
            "CreateTokenResponse { ok: true, err_msg: \"\", \
             token: Some(Token { token_id: \"\", token_type: \"\", active: false, .. }) }",
        );
        check(
            &image::BuildImageRequest {
                existing_image_creds: BTreeMap::from([("TOKEN".to_owned(), value())]),
                env_vars: vec![value()],
                ..Default::default()
            },
            "BuildImageRequest { existing_image_uri: \"\", python_version: \"\", .. }",
        );
        check(
            &function::FunctionInvokeRequest {
                args: Bytes::from_static(SECRET.as_bytes()),
                ..Default::default()
            },
            "FunctionInvokeRequest { stub_id: \"\", headless: false, .. }",
        );
    }
}
