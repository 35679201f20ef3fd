//! Containers, as the client lists and stops them.

use beta9_protocol::gateway::{Container, ListContainersRequest, StopContainerRequest};
use control_store::TokenScope;
use ids::ContainerId;

use super::calls::{Returning, Scene, rest};
use super::client::Beta9;

impl Beta9 {
    async fn containers(&self) -> Vec<Container> {
        let request = self.ask(ListContainersRequest {});
        let reply = self.gateway().list_containers(request).await;
        let reply = reply.unwrap().into_inner();
        assert!(reply.ok, "{}", reply.error_msg);
        reply.containers
    }

    async fn stop_container(&self, id: &str) -> Result<(), String> {
        let request = self.ask(StopContainerRequest {
            container_id: id.to_owned(),
        });
        let reply = self.gateway().stop_container(request).await;
        let reply = reply.unwrap().into_inner();
        if reply.ok {
            Ok(())
        } else {
            Err(reply.error_msg)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_listed_and_stopped() {
    let scene = Scene::new().await;
    let beta9 = &scene.beta9;
    assert_eq!(beta9.containers().await, []);
    rest(scene.invoke("return x", Returning::Possible).await).await;
    let [container] = &beta9.containers().await[..] else {
        panic!("one was started");
    };
    assert_eq!(
        (&*container.status, &container.stub_id),
        ("RUNNING", &scene.stub_id)
    );
    assert!(container.started_at.unwrap().seconds > 0 && !container.worker_id.is_empty());
    let id = &container.container_id;
    let theirs = scene.stage.caller("theirs", &TokenScope::ALL).await;
    let theirs = Beta9::of(&scene.stage, &theirs);
    assert_eq!(theirs.containers().await, []);
    let nobody = ContainerId::new().uuid().to_string();
    for (beta9, id, text) in [
        (beta9, &*nobody, "no container ctr-"),
        (&theirs, id, "no container ctr-"),
        (beta9, "7", "no container has such an id\n"),
    ] {
        let refused = beta9.stop_container(id).await.unwrap_err();
        assert!(refused.starts_with(text), "{refused}");
    }
    beta9.stop_container(id).await.unwrap();
    assert_eq!(beta9.containers().await, []);
}
