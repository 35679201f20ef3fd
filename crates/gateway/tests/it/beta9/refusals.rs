//! Who is not let in, and what is not served.

use axum::http::header::CONTENT_TYPE;
use beta9_protocol::function::{FunctionInvokeRequest, FunctionScheduleRequest};
use beta9_protocol::gateway::{
    AuthorizeRequest, CheckpointContainerRequest, CreateObjectDeltaRequest, CreateObjectRequest,
    EndTaskRequest, ExportWorkspaceConfigRequest, ListTokensRequest, StartTaskRequest,
};
use beta9_protocol::image::{BuildImageRequest, VerifyImageBuildRequest};
use beta9_protocol::secret::ListSecretsRequest;
use beta9_protocol::volume::GetOrCreateVolumeRequest;
use bytes::Bytes;
use control_store::TokenScope;
use futures::stream;
use reqwest::Client;
use tonic::Code;

use super::client::{Beta9, refusal};
use crate::support::Stage;

/// What the client's uploads come in.
const PIECE_BYTES: usize = 4 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_says_who_asks_and_the_client_knows_where() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &[TokenScope::Read]).await;
    let beta9 = Beta9::of(&stage, &caller);
    let authorized = beta9
        .gateway()
        .authorize(beta9.ask(AuthorizeRequest {}))
        .await;
    let authorized = authorized.unwrap().into_inner();
    let whoami = caller.get("/v1/whoami").await;
    let workspace = whoami["workspace"]["id"]
        .as_str()
        .unwrap()
        .replace("ws-", "");
    assert!(authorized.ok && authorized.new_token.is_empty());
    assert_eq!(authorized.workspace_id.replace('-', ""), workspace);
    let request = beta9.ask(ExportWorkspaceConfigRequest {});
    let exported = beta9.gateway().export_workspace_config(request).await;
    let exported = exported.unwrap().into_inner();
    assert_eq!(exported.workspace_id, authorized.workspace_id);
    assert_eq!(exported.gateway_http_host, "127.0.0.1");
    assert_eq!(exported.gateway_http_port, i32::from(stage.address.port()));
    assert_eq!(exported.gateway_grpc_port, exported.gateway_http_port);
    assert!(!exported.gateway_http_tls && !exported.gateway_grpc_tls);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_method_is_answered_without_a_token_that_counts() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let good = &caller.token;
    for authorization in [
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some(good.clone()),
        Some(format!("Basic {good}")),
        Some(format!("Bearer hf_{}", "0".repeat(64))),
        Some(format!("Bearer {}", &good[..66])),
    ] {
        let beta9 = Beta9::showing(&stage, authorization.clone());
        let codes = [
            beta9
                .gateway()
                .authorize(beta9.ask(AuthorizeRequest {}))
                .await
                .err(),
            beta9
                .gateway()
                .list_tokens(beta9.ask(ListTokensRequest {}))
                .await
                .err(),
            beta9
                .secret()
                .list_secrets(beta9.ask(ListSecretsRequest {}))
                .await
                .err(),
            {
                let request = beta9.ask(GetOrCreateVolumeRequest::default());
                beta9.volume().get_or_create_volume(request).await.err()
            },
            {
                let request = beta9.ask(FunctionInvokeRequest::default());
                beta9.function().function_invoke(request).await.err()
            },
            {
                let request = beta9.ask(BuildImageRequest::default());
                beta9.image().build_image(request).await.err()
            },
        ]
        .map(|status| status.map(|status| status.code()));
        assert_eq!(codes, [Some(Code::Unauthenticated); 6], "{authorization:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_is_not_known_is_said_to_be_so_in_grpc() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let client = Client::builder().http2_prior_knowledge().build().unwrap();
    for (path, token, code) in [
        ("gateway.GatewayService/DeployStub", &*caller.token, "12"),
        ("pod.PodService/CreatePod", &*caller.token, "12"),
        ("pod.PodService/CreatePod", "hf_0", "16"),
        ("v1/whoami", &*caller.token, "12"),
        ("", &*caller.token, "12"),
    ] {
        let url = format!("http://{}/{path}", stage.address);
        let request = client
            .post(url)
            .header(CONTENT_TYPE, "application/grpc+proto");
        let sent = request.bearer_auth(token).body(&[0; 5][..]).send().await;
        let response = sent.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["grpc-status"], code, "{path}");
    }
    let url = format!("http://{}/gateway.GatewayService/Authorize", stage.address);
    let response = client
        .post(url)
        .bearer_auth(&caller.token)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 404, "what is not gRPC has nothing there");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_is_refused_in_words() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    let request = beta9.ask(GetOrCreateVolumeRequest {
        name: "weights".to_owned(),
    });
    let text = refusal(beta9.volume().get_or_create_volume(request).await);
    assert!(
        text.starts_with("volume \"weights\": volumes are not supported\n"),
        "{text}"
    );
    let request = beta9.ask(FunctionScheduleRequest::default());
    let text = refusal(beta9.function().function_schedule(request).await);
    assert_eq!(text, "timetables of functions are not supported");
    let request = beta9.ask(CreateObjectRequest::default());
    refusal(beta9.gateway().create_object(request).await);
    refusal(
        beta9
            .gateway()
            .start_task(beta9.ask(StartTaskRequest::default()))
            .await,
    );
    refusal(
        beta9
            .gateway()
            .end_task(beta9.ask(EndTaskRequest::default()))
            .await,
    );
    let request = beta9.ask(stream::empty());
    let text = refusal(beta9.gateway().attach_to_container(request).await);
    assert_eq!(text, "attaching to a container is not supported");
    let request = beta9.ask(CheckpointContainerRequest::default());
    let reply = beta9.gateway().checkpoint_container(request).await;
    let reply = reply.unwrap().into_inner();
    assert!(
        !reply.ok && reply.error_msg.ends_with("not supported"),
        "{reply:?}"
    );
    let request = beta9.ask(CreateObjectDeltaRequest::default());
    let reply = beta9.gateway().create_object_delta(request).await;
    assert!(!reply.unwrap().into_inner().ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_may_be_as_long_as_the_client_makes_it() {
    let stage = Stage::new().await;
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    let length_bytes = [PIECE_BYTES, 3 * PIECE_BYTES];
    for length in length_bytes {
        let request = beta9.ask(FunctionInvokeRequest {
            args: Bytes::from(vec![7; length]),
            ..Default::default()
        });
        refusal(beta9.function().function_invoke(request).await);
        let request = beta9.ask(VerifyImageBuildRequest {
            dockerfile: "x".repeat(length),
            ..Default::default()
        });
        refusal(beta9.image().verify_image_build(request).await);
    }
}
