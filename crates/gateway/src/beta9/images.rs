//! Images.

use beta9_protocol::image::image_service_server::ImageService;
use beta9_protocol::image::{
    BuildImageRequest, BuildImageResponse, VerifyImageBuildRequest, VerifyImageBuildResponse,
};
use tonic::Request;
use tonic::codegen::BoxStream;

use super::refusal::not_served;
use super::{Answer, Beta9, called};

#[tonic::async_trait]
impl ImageService for Beta9 {
    type BuildImageStream = BoxStream<BuildImageResponse>;

    async fn verify_image_build(
        &self,
        request: Request<VerifyImageBuildRequest>,
    ) -> Answer<VerifyImageBuildResponse> {
        let _ = called(request)?;
        Err(not_served("not served yet"))
    }

    async fn build_image(
        &self,
        request: Request<BuildImageRequest>,
    ) -> Answer<Self::BuildImageStream> {
        let _ = called(request)?;
        Err(not_served("not served yet"))
    }
}
