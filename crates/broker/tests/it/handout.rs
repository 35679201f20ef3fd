//! Credentials that programs of others are given.

use broker::{Asked, BlastOf, BrokerError, HandedOut, LoginRequest, Recipient, RegistrySettings};
use credential::{Credential, ExposeSecret, SecretString};
use reference::Registry;
use registry_sim::Login;

use crate::support::{PASSWORD, Stage, USERNAME, scope, sim};

const DOCKER: Recipient = Recipient::Docker;

fn registry(host: &str) -> Asked {
    Asked::Registry(Registry::parse(host).unwrap())
}

fn repository(host: &str, repository: &str) -> Asked {
    Asked::Repository {
        registry: Registry::parse(host).unwrap(),
        repository: repository.to_owned(),
    }
}

impl Stage {
    async fn ask(&self, asked: &Asked) -> Result<HandedOut, BrokerError> {
        self.broker.hand_out(self.workspace, asked, DOCKER).await
    }

    async fn share(&self, text: &str) -> HandedOut {
        let scope = scope(text);
        let shared = self.broker.share(self.workspace, &scope, DOCKER, "test");
        shared.await.unwrap()
    }

    async fn unshare(&self, text: &str) -> bool {
        let scope = scope(text);
        let ended = self.broker.unshare(self.workspace, &scope, DOCKER, "test");
        ended.await.unwrap()
    }

    async fn given(&self, asked: &Asked) -> String {
        match self.ask(asked).await {
            Ok(given) => given.scope.to_string(),
            Err(error) => format!("{}: {error}", error.kind()),
        }
    }
}

#[tokio::test]
async fn nothing_is_handed_out_that_is_not_shared() {
    let sim = sim(Login::Basic).await;
    let (stage, host) = (Stage::new().await, sim.host());
    let nothing = format!("not_found: no credential for {host} in this workspace");
    assert_eq!(stage.given(&registry(host)).await, nothing);
    stage.login(host, PASSWORD).await.unwrap();
    let opened = stage.audited("open").await;
    let unshared = format!("not_found: credential for {host} is not shared with docker");
    assert_eq!(stage.given(&registry(host)).await, unshared);
    assert_eq!(stage.audited("open").await, opened, "nothing was opened");

    assert!(!stage.share(host).await.is_minted);
    let given = stage.ask(&registry(host)).await.unwrap();
    let parts = (given.username.as_str(), given.password.expose_secret());
    assert_eq!(parts, (USERNAME, PASSWORD));
    assert!(!format!("{given:?}").contains(PASSWORD));
    // Once to try it, and once for each that was given.
    assert_eq!(stage.audited("open").await, opened + 2);
    assert_eq!(stage.audited("share").await, 1);
    // The other recipient has it no more than before.
    let asked = registry(host);
    let kubelet = stage
        .broker
        .hand_out(stage.workspace, &asked, Recipient::Kubelet);
    assert!(matches!(kubelet.await, Err(BrokerError::NotShared { .. })));

    assert!(!stage.unshare("x.example").await);
    assert!(stage.unshare(host).await);
    assert!(!stage.unshare(host).await);
    assert_eq!(stage.given(&registry(host)).await, unshared);
    assert_eq!(stage.audited("unshare").await, 1);
}

/// What a program of others has once, it has until it is changed.
#[tokio::test]
async fn what_was_handed_out_is_listed_and_is_to_be_rotated() {
    let sim = sim(Login::Basic).await;
    let (stage, host) = (Stage::new().await, sim.host());
    let scope = scope(host);
    let blast = async || {
        let of = BlastOf::Credential(stage.workspace, &scope);
        stage.broker.blast(of, None).await.unwrap()
    };
    stage.login(host, PASSWORD).await.unwrap();
    stage.share(host).await;
    assert_eq!(
        blast().await.exposed,
        [],
        "it was tried and given to nobody"
    );
    for _ in 0..2 {
        stage.ask(&registry(host)).await.unwrap();
    }
    assert!(stage.unshare(host).await);
    let after = blast().await;
    let [row] = after.exposed.as_slice() else {
        panic!("{after:?}");
    };
    assert_eq!(row.recipient.as_deref(), Some("docker"));
    assert_eq!(row.repository.as_deref(), Some(host));
    assert_eq!(
        (&row.worker, row.not_after, row.is_alive),
        (&None, None, true)
    );
    assert_eq!(row.rung, "basic (whole identity)");
    assert_eq!(after.rotate, [host]);
    assert_eq!(stage.audited("hand-out").await, 2);
}

#[tokio::test]
async fn who_is_handed_nothing_is_on_record() {
    let sim = sim(Login::Basic).await;
    let (stage, host) = (Stage::new().await, sim.host());
    stage.ask(&registry(host)).await.unwrap_err();
    assert_eq!(stage.audited("deny").await, 0, "there is nothing to refuse");
    let paths = ["a", "b"].map(|path| format!("{host}/{path}"));
    for path in &paths {
        stage.login(path, PASSWORD).await.unwrap();
    }
    stage.ask(&registry(host)).await.unwrap_err();
    assert_eq!(stage.audited("deny").await, 1, "not shared");
    for path in &paths {
        stage.share(path).await;
    }
    stage.ask(&registry(host)).await.unwrap_err();
    assert_eq!(stage.audited("deny").await, 2, "several are");
    let rows = stage.broker.vault().audit_tail(100).await.unwrap();
    let denied = rows.iter().find(|row| row.action == "deny").unwrap();
    assert_eq!(denied.subject, host);
    assert_eq!(denied.actor, format!("hand out to docker for {host}"));
    assert_eq!(stage.audited("hand-out").await, 0);
}

#[tokio::test]
async fn a_share_is_of_one_secret_and_of_all_its_versions() {
    let sim = sim(Login::Basic).await;
    let (stage, host) = (Stage::new().await, sim.host());
    stage.login(host, PASSWORD).await.unwrap();
    stage.share(host).await;
    sim.set_password("another");
    stage.login(host, "another").await.unwrap();
    let given = stage.ask(&registry(host)).await.unwrap();
    assert_eq!(
        (given.version, given.password.expose_secret()),
        (2, "another")
    );

    stage
        .broker
        .logout(stage.workspace, &scope(host))
        .await
        .unwrap();
    assert_eq!(
        stage.broker.store().shares(stage.workspace).await.unwrap(),
        []
    );
    stage.login(host, "another").await.unwrap();
    let unshared = format!("not_found: credential for {host} is not shared with docker");
    assert_eq!(stage.given(&registry(host)).await, unshared);
}

#[tokio::test]
async fn a_host_has_one_credential_and_a_repository_the_nearest() {
    let sim = sim(Login::Basic).await;
    let (stage, host) = (Stage::new().await, sim.host());
    let [a, b] = ["a", "b"].map(|path| format!("{host}/{path}"));
    for text in [host, &a, &b] {
        stage.login(text, PASSWORD).await.unwrap();
    }
    stage.share(&a).await;
    assert_eq!(stage.given(&registry(host)).await, a);
    assert_eq!(stage.given(&repository(host, "a/x")).await, a);
    // The nearest of those that are shared: there is none.
    let unshared = stage.given(&repository(host, "b/x")).await;
    assert!(unshared.starts_with("not_found"), "{unshared}");
    stage.share(&b).await;
    let several = stage.given(&registry(host)).await;
    assert!(several.contains("several credentials"), "{several}");
    assert_eq!(stage.given(&repository(host, "b/x")).await, b);
    stage.share(host).await;
    assert_eq!(stage.given(&registry(host)).await, host);
    assert_eq!(stage.given(&repository(host, "b/x")).await, b);
    assert_eq!(stage.given(&repository(host, "bb")).await, host);
}

#[tokio::test]
async fn a_bearer_token_is_not_shared() {
    let sim = sim(Login::Nobody).await;
    let (stage, host) = (Stage::new().await, sim.host());
    let token = SecretString::from("CANARY".to_owned());
    let request = LoginRequest {
        scope: scope(host),
        credential: Credential::registry_token(token),
        settings: RegistrySettings::default(),
    };
    stage.broker.login(stage.workspace, request).await.unwrap();
    let error = stage
        .broker
        .share(stage.workspace, &scope(host), DOCKER, "test")
        .await
        .unwrap_err();
    assert!(matches!(error, BrokerError::Auth { .. }), "{error:?}");
    assert!(
        stage
            .broker
            .shared(stage.workspace)
            .await
            .unwrap()
            .is_empty()
    );
}
