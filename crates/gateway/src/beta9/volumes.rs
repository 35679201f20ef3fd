//! Volumes, which there are none of.
//!
//! A function's volumes are asked for here before the function is known, and of a reply without
//! `ok` the client shows nothing: the refusal is a status.

use beta9_protocol::volume::volume_service_server::VolumeService;
use beta9_protocol::volume::{GetOrCreateVolumeRequest, GetOrCreateVolumeResponse};
use tonic::Request;

use super::refusal::{status, unsupported};
use super::{Answer, Beta9, called};

#[tonic::async_trait]
impl VolumeService for Beta9 {
    async fn get_or_create_volume(
        &self,
        request: Request<GetOrCreateVolumeRequest>,
    ) -> Answer<GetOrCreateVolumeResponse> {
        let (_, request) = called(request)?;
        let message = format!("volume {:?}: volumes are not supported", request.name);
        let problem = unsupported(message).hint(
            "take volumes= away; files beside the program and in the image are there in each call",
        );
        Err(status(problem))
    }
}
