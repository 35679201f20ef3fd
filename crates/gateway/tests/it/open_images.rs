//! Images as containers are started from them.

use std::fs;

use control_store::TokenScope;
use futures::future::join_all;
use gateway::Kind;
use ids::WorkspaceId;
use reference::Digest;
use registry_sim::{Login, Realm, RegistrySim};

use crate::builds::{password, registry, request};
use crate::support::Stage;

const PASSWORD: &str = "correct-horse-battery";
const OTHER_PASSWORD: &str = "another-horse-battery";

struct Built {
    stage: Stage,
    sim: RegistrySim,
    workspace: WorkspaceId,
    id: Digest,
}

impl Built {
    /// An image that was built with a credential of its own.
    async fn new(login: Login) -> Self {
        let (stage, sim) = (Stage::new().await, registry(login).await);
        let caller = stage.caller("team", &TokenScope::ALL).await;
        let image = caller.build(request(&sim, password(PASSWORD))).await;
        let id = image["id"].as_str().unwrap().parse().unwrap();
        let workspace = stage.workspace("team").await;
        Self {
            stage,
            sim,
            workspace,
            id,
        }
    }

    /// Opens so many at once, and gives their leases back; answers the kinds of those refused.
    async fn open(&self, count: usize) -> Vec<Kind> {
        let open = || self.stage.gateway.open_image(self.workspace, &self.id);
        let opened = join_all((0..count).map(|_| open())).await;
        let mut refused = Vec::new();
        for opened in opened {
            match opened {
                Ok(open) => {
                    assert_eq!(open.image.id, self.id);
                    assert_eq!(open.image.layers.len(), 2);
                    assert_eq!(open.reference.digest(), Some(&open.image.manifest_digest));
                    open.lease.end().await.unwrap();
                }
                Err(problem) => refused.push(problem.kind),
            }
        }
        refused
    }

    /// Of the credential that it was built with.
    fn scope(&self) -> String {
        format!("{}/acme/app", self.sim.host())
    }

    /// How often its configuration was asked for.
    async fn config_requests(&self) -> usize {
        let open = self.stage.gateway.open_image(self.workspace, &self.id);
        let open = open.await.unwrap();
        open.lease.end().await.unwrap();
        let config = open.image.config_digest.to_string();
        let paths = self.sim.registry().paths();
        paths.iter().filter(|path| path.ends_with(&config)).count()
    }

    fn manifest_requests(&self) -> usize {
        let paths = self.sim.registry().paths();
        paths
            .iter()
            .filter(|path| path.contains("/manifests/"))
            .count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_containers_ask_a_registry_once() {
    let built = Built::new(Login::Bearer(Realm::SameHost)).await;
    // A version that nobody has used yet.
    built.stage.login("team", &built.scope(), PASSWORD).await;
    let tokens = built.sim.token_requests().read().requests;
    let manifests = built.manifest_requests();
    assert_eq!(built.open(200).await, []);
    assert_eq!(built.sim.token_requests().read().requests - tokens, 1);
    assert_eq!(built.manifest_requests() - manifests, 1);
    assert_eq!(built.open(1).await, [], "its word stands for a while");
    assert_eq!(built.sim.token_requests().read().requests - tokens, 1);
    assert_eq!(built.manifest_requests() - manifests, 1);
    assert_eq!(built.config_requests().await, 1, "when it was built");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_proven_anew_and_a_removed_one_ends_it() {
    let built = Built::new(Login::Basic).await;
    assert_eq!(built.open(1).await, []);
    built.sim.set_password(OTHER_PASSWORD);
    let scope = built.scope();
    let manifests = built.manifest_requests();
    assert_eq!(built.open(1).await, [], "the registry's word stands");
    assert_eq!(built.manifest_requests(), manifests);
    built.stage.login("team", &scope, OTHER_PASSWORD).await;
    let manifests = built.manifest_requests();
    assert_eq!(built.open(3).await, []);
    assert_eq!(built.manifest_requests() - manifests, 1);
    let (broker, scope) = (&built.stage.broker, scope.parse().unwrap());
    broker.logout(built.workspace, &scope).await.unwrap();
    assert_eq!(built.open(2).await, [Kind::NotFound; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_for_those_who_wait_and_the_next_asks_again() {
    let built = Built::new(Login::Basic).await;
    built.sim.faults(|faults| faults.wrong_manifest = true);
    assert_eq!(built.open(5).await, [Kind::Unsupported; 5]);
    built.sim.faults(|faults| faults.wrong_manifest = false);
    assert_eq!(built.open(5).await, []);
    built.sim.set_password(OTHER_PASSWORD);
    let scope = built.scope();
    built.stage.login("team", &scope, OTHER_PASSWORD).await;
    built.sim.set_password(PASSWORD);
    assert_eq!(built.open(5).await, [Kind::Denied; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_that_went_are_made_again() {
    let built = Built::new(Login::Basic).await;
    let indexes = built.stage.directory.path().join("data/indexes");
    for count in [1, 4] {
        fs::remove_dir_all(&indexes).unwrap();
        assert_eq!(built.open(count).await, []);
        assert_eq!(fs::read_dir(&indexes).unwrap().count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_anybody_may_read_is_opened_without_a_credential() {
    let (stage, sim) = (Stage::new().await, registry(Login::Nobody).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let image = caller.build(request(&sim, serde_json::json!({}))).await;
    let workspace = stage.workspace("team").await;
    stage.login("team", sim.host(), PASSWORD).await;
    let id = image["id"].as_str().unwrap().parse().unwrap();
    let open = stage.gateway.open_image(workspace, &id).await.unwrap();
    assert_eq!(open.lease.scope(), None);
}
