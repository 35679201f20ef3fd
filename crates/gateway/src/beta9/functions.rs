//! Calls of functions.

use beta9_protocol::function::function_service_server::FunctionService;
use beta9_protocol::function::{
    FunctionInvokeRequest, FunctionInvokeResponse, FunctionScheduleRequest,
    FunctionScheduleResponse,
};
use tonic::Request;
use tonic::codegen::BoxStream;

use super::refusal::not_served;
use super::{Answer, Beta9, called};

#[tonic::async_trait]
impl FunctionService for Beta9 {
    type FunctionInvokeStream = BoxStream<FunctionInvokeResponse>;

    async fn function_invoke(
        &self,
        request: Request<FunctionInvokeRequest>,
    ) -> Answer<Self::FunctionInvokeStream> {
        let _ = called(request)?;
        Err(not_served("not served yet"))
    }

    async fn function_schedule(
        &self,
        _request: Request<FunctionScheduleRequest>,
    ) -> Answer<FunctionScheduleResponse> {
        Err(not_served("timetables of functions are not supported"))
    }
}
