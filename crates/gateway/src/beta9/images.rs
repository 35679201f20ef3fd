//! Images.
//!
//! A registry's image is never said to be there already, since only a build carries a credential
//! and has the registry asked. What cannot be is refused when the client asks whether the image is
//! there, before it sends anything; how a build fails stands in its last message, the only one that
//! 0.1.245 prints of it.

use beta9_protocol::image::image_service_server::ImageService;
use beta9_protocol::image::{
    BuildImageRequest, BuildImageResponse, VerifyImageBuildRequest, VerifyImageBuildResponse,
};
use credential::SecretString;
use futures::stream;
use reference::{Digest, Reference};
use tonic::codegen::BoxStream;
use tonic::{Request, Response};

use super::refusal::{answer, refuse, text, unsupported};
use super::stubs::parse_environment;
use super::{Answer, Beta9, KEEP_ALIVE_INTERVAL, called};
use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::operations::images::{
    BuildEvent, BuildRequest, Building, BuiltImage, CredentialGiven, PythonAsked,
};
use crate::problem::Problem;
use crate::watch::Told;

/// What the names of Pythons begin with that are to be installed by that program.
const MICROMAMBA: &str = "micromamba";
const HINT: &str = "images are run as they are: build one that has it, and name that";

#[tonic::async_trait]
impl ImageService for Beta9 {
    async fn verify_image_build(
        &self,
        request: Request<VerifyImageBuildRequest>,
    ) -> Answer<VerifyImageBuildResponse> {
        let (caller, request) = called(request)?;
        answer(verify(&self.gateway, &caller, &request).await)
    }

    type BuildImageStream = BoxStream<BuildImageResponse>;

    async fn build_image(
        &self,
        request: Request<BuildImageRequest>,
    ) -> Answer<Self::BuildImageStream> {
        let (caller, request) = called(request)?;
        let python_version = request.python_version.clone();
        let begun = begin(&self.gateway, &caller, request).await;
        let told = begun.as_ref().err().cloned().map(Told);
        let replies = Replies {
            python_version,
            building: Some(begun),
        };
        let replies = stream::unfold(replies, async |mut replies| {
            let reply = replies.next().await?;
            Some((Ok(reply), replies))
        });
        let mut response: Response<Self::BuildImageStream> = Response::new(Box::pin(replies));
        if let Some(told) = told {
            response.extensions_mut().insert(told);
        }
        Ok(response)
    }
}

async fn verify(
    gateway: &Gateway,
    caller: &Caller,
    request: &VerifyImageBuildRequest,
) -> Result<VerifyImageBuildResponse, Problem> {
    let recipe = Recipe::from(request);
    let id = request.image_id.as_deref().unwrap_or_default();
    if id.is_empty() || !recipe.base_image.is_empty() {
        recipe.parse()?;
        return Ok(VerifyImageBuildResponse::default());
    }
    recipe.refuse_steps()?;
    refuse(&[("env_vars", !recipe.env_vars.is_empty())], HINT)?;
    let id = Digest::parse(id).map_err(|_| Problem::not_found("no image has such an id"))?;
    let built = gateway.image(caller, &id).await?;
    Ok(VerifyImageBuildResponse {
        image_id: built.image.id.to_string(),
        valid: true,
        exists: true,
    })
}

/// Begins a build. Without a credential, what `holdfast login` stored is used.
async fn begin(
    gateway: &Gateway,
    caller: &Caller,
    request: BuildImageRequest,
) -> Result<Building, Problem> {
    let recipe = Recipe::from(&request);
    let keys = request.existing_image_creds.into_iter();
    let keys = keys.map(|(key, value)| (key, SecretString::from(value)));
    let mut request = recipe.parse()?;
    if keys.len() > 0 {
        request.credential = CredentialGiven::Keys(keys.collect());
    }
    gateway.build_image(caller, request).await
}

/// What an image is to be made from, which the two requests say under the same names.
struct Recipe {
    python_version: String,
    base_image: String,
    env_vars: Vec<String>,
    /// What is to be done to the base image, by the client's name for it.
    steps: [(&'static str, bool); 9],
}

macro_rules! recipe {
    ($($request:ty),+) => {$(
        impl From<&$request> for Recipe {
            fn from(request: &$request) -> Self {
                Self {
                    python_version: request.python_version.clone(),
                    base_image: request.existing_image_uri.clone(),
                    env_vars: request.env_vars.clone(),
                    steps: [
                        ("python_packages", !request.python_packages.is_empty()),
                        ("commands", !request.commands.is_empty()),
                        ("build steps", !request.build_steps.is_empty()),
                        ("a Dockerfile", !request.dockerfile.is_empty()),
                        ("files to add", !request.build_ctx_object.is_empty()),
                        ("secrets of a build", !request.secrets.is_empty()),
                        ("build_with_gpu", !request.gpu.is_empty()),
                        ("ignore_python", request.ignore_python),
                        ("a git repository", request.git_source.is_some()),
                    ],
                }
            }
        }
    )+};
}

recipe!(VerifyImageBuildRequest, BuildImageRequest);

impl Recipe {
    /// The build of it, with what is stored for its registry.
    fn parse(&self) -> Result<BuildRequest, Problem> {
        self.refuse_steps()?;
        if self.base_image.is_empty() {
            let problem = unsupported("there is no default image");
            return Err(problem.hint("name one: Image(base_image=\"registry/repository:tag\")"));
        }
        let base_image = Reference::parse(&self.base_image).map_err(|error| {
            let hint = error.hint().map(str::to_owned);
            Problem::invalid(format!("base_image: {error}")).hint_if(hint)
        })?;
        Ok(BuildRequest {
            base_image,
            credential: CredentialGiven::Stored,
            environment: parse_environment(&self.env_vars)?,
            python: PythonAsked::Rather(self.python_version.clone()),
        })
    }

    fn refuse_steps(&self) -> Result<(), Problem> {
        refuse(&self.steps, HINT)?;
        refuse(
            &[(MICROMAMBA, self.python_version.starts_with(MICROMAMBA))],
            HINT,
        )
    }
}

/// What is said of a build, up to its end.
struct Replies {
    /// Nothing after the end.
    building: Option<Result<Building, Problem>>,
    /// The client takes it over from the last reply.
    python_version: String,
}

impl Replies {
    async fn next(&mut self) -> Option<BuildImageResponse> {
        let mut building = match self.building.take()? {
            Ok(building) => building,
            Err(problem) => return Some(self.last(Err(problem))),
        };
        let reply = match tokio::time::timeout(KEEP_ALIVE_INTERVAL, building.next()).await {
            Err(_) => BuildImageResponse::default(),
            Ok(BuildEvent::Progress(line)) => BuildImageResponse {
                msg: line + "\n",
                ..Default::default()
            },
            Ok(BuildEvent::Ended(outcome)) => return Some(self.last(*outcome)),
        };
        self.building = Some(Ok(building));
        Some(reply)
    }

    fn last(&self, outcome: Result<BuiltImage, Problem>) -> BuildImageResponse {
        let last = BuildImageResponse {
            done: true,
            python_version: self.python_version.clone(),
            ..Default::default()
        };
        match outcome {
            Ok(built) => BuildImageResponse {
                success: true,
                image_id: built.image.id.to_string(),
                ..last
            },
            Err(problem) => BuildImageResponse {
                msg: text(problem),
                ..last
            },
        }
    }
}
