//! The methods of the client's `GatewayService`, each in its module's hands; and those that this
//! gateway has no use for, which are refused by name.

use beta9_protocol::gateway::gateway_service_server::GatewayService;
use beta9_protocol::gateway::{
    AttachToContainerResponse, AuthorizeRequest, AuthorizeResponse, CheckpointContainerRequest,
    CheckpointContainerResponse, ContainerStreamMessage, CreateObjectDeltaRequest,
    CreateObjectDeltaResponse, CreateObjectRequest, CreateObjectResponse, CreateTokenRequest,
    CreateTokenResponse, DeleteTokenRequest, DeleteTokenResponse, EndTaskRequest, EndTaskResponse,
    ExportWorkspaceConfigRequest, ExportWorkspaceConfigResponse, GetOrCreateStubRequest,
    GetOrCreateStubResponse, HeadObjectRequest, HeadObjectResponse, ListContainersRequest,
    ListContainersResponse, ListTasksRequest, ListTasksResponse, ListTokensRequest,
    ListTokensResponse, PutObjectRequest, PutObjectResponse, StartTaskRequest, StartTaskResponse,
    StopContainerRequest, StopContainerResponse, StopTasksRequest, StopTasksResponse,
    ToggleTokenRequest, ToggleTokenResponse,
};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Streaming};

use super::refusal::{answer, not_served, reply, reply_or_retry, unsupported};
use super::workspace::{self, Address};
use super::{Answer, Beta9, called, containers, objects, stubs, tasks, tokens};

#[tonic::async_trait]
impl GatewayService for Beta9 {
    async fn authorize(&self, request: Request<AuthorizeRequest>) -> Answer<AuthorizeResponse> {
        let (caller, _) = called(request)?;
        Ok(Response::new(workspace::authorize(&caller)))
    }

    async fn export_workspace_config(
        &self,
        request: Request<ExportWorkspaceConfigRequest>,
    ) -> Answer<ExportWorkspaceConfigResponse> {
        let address = request.extensions().get::<Address>().cloned();
        let (caller, _) = called(request)?;
        let exported = workspace::export(&caller, address.unwrap_or_default());
        Ok(Response::new(exported))
    }

    async fn head_object(&self, request: Request<HeadObjectRequest>) -> Answer<HeadObjectResponse> {
        let (caller, request) = called(request)?;
        answer(objects::head(&self.gateway, &caller, request).await)
    }

    async fn put_object_stream(
        &self,
        request: Request<Streaming<PutObjectRequest>>,
    ) -> Answer<PutObjectResponse> {
        let (caller, pieces) = called(request)?;
        answer(objects::put(&self.gateway, &caller, pieces).await)
    }

    async fn create_object(&self, _: Request<CreateObjectRequest>) -> Answer<CreateObjectResponse> {
        Err(not_served("uploads past the gateway are not supported"))
    }

    async fn create_object_delta(
        &self,
        _: Request<CreateObjectDeltaRequest>,
    ) -> Answer<CreateObjectDeltaResponse> {
        // Without `ok`, which makes the client send everything.
        Ok(Response::new(CreateObjectDeltaResponse::default()))
    }

    async fn get_or_create_stub(
        &self,
        request: Request<GetOrCreateStubRequest>,
    ) -> Answer<GetOrCreateStubResponse> {
        let (caller, request) = called(request)?;
        answer(stubs::create(&self.gateway, &caller, request).await)
    }

    async fn start_task(&self, _: Request<StartTaskRequest>) -> Answer<StartTaskResponse> {
        Err(not_served("a container starts no task of its own"))
    }

    async fn end_task(&self, _: Request<EndTaskRequest>) -> Answer<EndTaskResponse> {
        Err(not_served("a container ends no task of its own"))
    }

    async fn list_tasks(&self, request: Request<ListTasksRequest>) -> Answer<ListTasksResponse> {
        let (caller, request) = called(request)?;
        Ok(reply(tasks::list(&self.gateway, &caller, request).await))
    }

    async fn stop_tasks(&self, request: Request<StopTasksRequest>) -> Answer<StopTasksResponse> {
        let (caller, request) = called(request)?;
        reply_or_retry(tasks::stop(&self.gateway, &caller, request).await)
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        let (caller, _) = called(request)?;
        Ok(reply(containers::list(&self.gateway, &caller).await))
    }

    async fn stop_container(
        &self,
        request: Request<StopContainerRequest>,
    ) -> Answer<StopContainerResponse> {
        let (caller, request) = called(request)?;
        reply_or_retry(containers::stop(&self.gateway, &caller, request).await)
    }

    type AttachToContainerStream = BoxStream<AttachToContainerResponse>;

    async fn attach_to_container(
        &self,
        _: Request<Streaming<ContainerStreamMessage>>,
    ) -> Answer<Self::AttachToContainerStream> {
        Err(not_served("attaching to a container is not supported"))
    }

    async fn checkpoint_container(
        &self,
        _: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        Ok(reply(Err(unsupported(
            "checkpoints of containers are not supported",
        ))))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Answer<CreateTokenResponse> {
        let (caller, request) = called(request)?;
        Ok(reply(tokens::create(&self.gateway, &caller, request).await))
    }

    async fn list_tokens(&self, request: Request<ListTokensRequest>) -> Answer<ListTokensResponse> {
        let (caller, _) = called(request)?;
        Ok(reply(tokens::list(&self.gateway, &caller).await))
    }

    async fn toggle_token(
        &self,
        request: Request<ToggleTokenRequest>,
    ) -> Answer<ToggleTokenResponse> {
        let (caller, request) = called(request)?;
        Ok(reply(tokens::toggle(&self.gateway, &caller, request).await))
    }

    async fn delete_token(
        &self,
        request: Request<DeleteTokenRequest>,
    ) -> Answer<DeleteTokenResponse> {
        let (caller, request) = called(request)?;
        Ok(reply(tokens::delete(&self.gateway, &caller, request).await))
    }
}
