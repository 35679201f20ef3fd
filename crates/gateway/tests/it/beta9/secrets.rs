//! Secrets: in, and never out.

use beta9_protocol::secret::{
    CreateSecretRequest, DeleteSecretRequest, GetSecretRequest, ListSecretsRequest, Secret,
    UpdateSecretRequest,
};
use control_store::TokenScope;

use super::client::Beta9;
use crate::support::Stage;

const VALUE: &str = "a-value-that-nobody-is-shown";

impl Beta9 {
    /// The name that was made, or why not.
    async fn create(&self, name: &str, hosts: &[&str]) -> Result<String, String> {
        let request = self.ask(CreateSecretRequest {
            name: name.to_owned(),
            value: VALUE.to_owned(),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        });
        let reply = self
            .secret()
            .create_secret(request)
            .await
            .unwrap()
            .into_inner();
        let outcome = if reply.ok {
            Ok(reply.name)
        } else {
            Err(reply.err_msg)
        };
        not_told(outcome)
    }

    async fn modify(&self, name: &str, hosts: &[&str]) -> Result<(), String> {
        let request = self.ask(UpdateSecretRequest {
            name: name.to_owned(),
            value: VALUE.to_owned(),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            clear_hosts: hosts.is_empty(),
        });
        let reply = self
            .secret()
            .update_secret(request)
            .await
            .unwrap()
            .into_inner();
        not_told(if reply.ok { Ok(()) } else { Err(reply.err_msg) })
    }

    async fn delete(&self, name: &str) -> Result<(), String> {
        let request = self.ask(DeleteSecretRequest {
            name: name.to_owned(),
        });
        let reply = self
            .secret()
            .delete_secret(request)
            .await
            .unwrap()
            .into_inner();
        not_told(if reply.ok { Ok(()) } else { Err(reply.err_msg) })
    }

    async fn secrets(&self) -> Vec<Secret> {
        let request = self.ask(ListSecretsRequest {});
        let reply = self
            .secret()
            .list_secrets(request)
            .await
            .unwrap()
            .into_inner();
        assert!(reply.ok, "{}", reply.err_msg);
        reply.secrets
    }
}

fn not_told<T>(outcome: Result<T, String>) -> Result<T, String> {
    outcome.inspect_err(|text| assert!(!text.contains(VALUE), "{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_made_changed_and_removed() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    let missing = beta9.modify("API_KEY", &[]).await.unwrap_err();
    assert_eq!(
        missing,
        "no secret \"API_KEY\" in this workspace\ncreate it first"
    );
    assert_eq!(beta9.create("API_KEY", &[]).await.unwrap(), "API_KEY");
    let [made] = &beta9.secrets().await[..] else {
        panic!("one was made");
    };
    assert_eq!((&*made.name, &*made.value), ("API_KEY", ""));
    assert!(made.created_at.unwrap().seconds > 0);
    let twice = beta9.create("API_KEY", &[]).await.unwrap_err();
    assert!(
        twice.starts_with("secret \"API_KEY\" is there already\n"),
        "{twice}"
    );
    beta9.modify("API_KEY", &[]).await.unwrap();
    let [changed] = &beta9.secrets().await[..] else {
        panic!("it is the same");
    };
    assert!(changed.updated_at.unwrap().seconds >= made.updated_at.unwrap().seconds);
    assert!(
        changed.created_at.unwrap().seconds < 0,
        "the client shows nothing"
    );
    assert_eq!(caller.get("/v1/secrets").await["secrets"][0]["version"], 2);
    beta9.delete("API_KEY").await.unwrap();
    let gone = beta9.delete("API_KEY").await.unwrap_err();
    assert_eq!(gone, "no secret \"API_KEY\" in this workspace");
    assert_eq!(beta9.secrets().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_secret_cannot_be_is_refused_by_name() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    let registry = "oci-registry-ghcr-io is the name of a registry credential\n";
    for (outcome, starts) in [
        (
            beta9.create("A", &["api.example"]).await.map(drop),
            "secrets for certain hosts",
        ),
        (
            beta9.modify("A", &["api.example"]).await,
            "secrets for certain hosts",
        ),
        (beta9.create("-a", &[]).await.map(drop), "secret name"),
        (
            beta9.create("oci-registry-ghcr-io", &[]).await.map(drop),
            registry,
        ),
        (beta9.modify("oci-registry-ghcr-io", &[]).await, registry),
        (beta9.delete("oci-registry-ghcr-io").await, registry),
    ] {
        let text = outcome.unwrap_err();
        assert!(text.starts_with(starts), "{text}");
    }
    assert_eq!(beta9.secrets().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_is_shown() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    beta9.create("API_KEY", &[]).await.unwrap();
    for (name, reason) in [
        (
            "API_KEY",
            "the value of secret \"API_KEY\" is shown to nobody\n",
        ),
        (
            "oci-registry-ghcr-io",
            "oci-registry-ghcr-io is a registry credential: ",
        ),
        ("-a", "secret name"),
    ] {
        let request = beta9.ask(GetSecretRequest {
            name: name.to_owned(),
        });
        let reply = beta9
            .secret()
            .get_secret(request)
            .await
            .unwrap()
            .into_inner();
        assert!(!reply.ok && reply.secret.is_none());
        assert!(reply.err_msg.starts_with(reason), "{}", reply.err_msg);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_other_things_writes_no_secret() {
    let stage = Stage::new().await;
    let caller = stage
        .caller("team", &[TokenScope::Read, TokenScope::Call])
        .await;
    let beta9 = Beta9::of(&stage, &caller);
    for outcome in [
        beta9.create("A", &[]).await.map(drop),
        beta9.modify("A", &[]).await,
        beta9.delete("A").await,
    ] {
        let text = outcome.unwrap_err();
        assert!(
            text.starts_with("token has no scope \"secrets\"\n"),
            "{text}"
        );
    }
}
