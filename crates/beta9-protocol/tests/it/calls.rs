//! A client and a server of this crate understand each other, without a transport between them.

use std::pin::Pin;

use beta9_protocol::MAX_MESSAGE_BYTES;
use beta9_protocol::function::function_service_client::FunctionServiceClient;
use beta9_protocol::function::function_service_server::{FunctionService, FunctionServiceServer};
use beta9_protocol::function::{
    FunctionInvokeRequest, FunctionInvokeResponse, FunctionScheduleRequest,
    FunctionScheduleResponse,
};
use beta9_protocol::metadata;
use bytes::Bytes;
use futures::{Stream, stream};
use tonic::{Code, Request, Response, Status};

/// What the client's uploads come in, and so what its arguments may easily exceed.
const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// Answers with the task that the caller goes on with, and gives the arguments back.
struct Echo;

type Replies = Pin<Box<dyn Stream<Item = Result<FunctionInvokeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl FunctionService for Echo {
    type FunctionInvokeStream = Replies;

    async fn function_invoke(
        &self,
        request: Request<FunctionInvokeRequest>,
    ) -> Result<Response<Replies>, Status> {
        let task = request.metadata().get(metadata::TASK_ID);
        let task_id = task
            .map_or("new", |value| value.to_str().unwrap())
            .to_owned();
        let announced = FunctionInvokeResponse {
            task_id: task_id.clone(),
            ..Default::default()
        };
        let ended = FunctionInvokeResponse {
            task_id,
            done: true,
            result: request.into_inner().args,
            ..Default::default()
        };
        Ok(Response::new(Box::pin(stream::iter([
            Ok(announced),
            Ok(ended),
        ]))))
    }

    async fn function_schedule(
        &self,
        _request: Request<FunctionScheduleRequest>,
    ) -> Result<Response<FunctionScheduleResponse>, Status> {
        Err(Status::unimplemented("schedules"))
    }
}

fn call(bytes: usize) -> Request<FunctionInvokeRequest> {
    let mut request = Request::new(FunctionInvokeRequest {
        args: Bytes::from(vec![7; bytes]),
        ..Default::default()
    });
    let task = "task-1".parse().unwrap();
    request.metadata_mut().insert(metadata::TASK_ID, task);
    request
}

#[tokio::test]
async fn a_call_is_a_stream_that_ends_with_its_result() {
    let server = FunctionServiceServer::new(Echo).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let mut client =
        FunctionServiceClient::new(server).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let mut replies = client
        .function_invoke(call(PIECE_BYTES))
        .await
        .unwrap()
        .into_inner();
    let announced = replies.message().await.unwrap().unwrap();
    assert_eq!(
        (announced.task_id.as_str(), announced.done),
        ("task-1", false)
    );
    let ended = replies.message().await.unwrap().unwrap();
    assert_eq!((ended.done, ended.result.len()), (true, PIECE_BYTES));
    assert!(replies.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_server_that_is_not_told_the_limit_refuses_a_full_piece() {
    let mut client = FunctionServiceClient::new(FunctionServiceServer::new(Echo));
    let refused = client.function_invoke(call(PIECE_BYTES)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
}
