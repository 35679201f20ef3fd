//! Images, and how their builds go: events for who looks on, one answer for who waits.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use credential::SecretString;
use futures::{Stream, stream};
use reference::{Digest, Reference};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Answer;
use super::answer::{Failed, Failure};
use super::body::{Body, Id};
use super::events::{self, event};
use super::secrets::secret;
use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::operations::images::{
    BuildEvent, BuildRequest, Building, BuiltImage, CredentialGiven, ImageCredential, PythonAsked,
};
use crate::problem::{Kind, Problem};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewImage {
    /// `registry/repository:tag`, best with a digest
    base_image: String,
    /// A registry credential by its keys, such as `USERNAME` and `PASSWORD`. An empty value is that
    /// of the workspace's secret of the key's name. `{}` shows the registry nothing; without, what
    /// `holdfast login` stored is used, and nothing where there is none.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    credential: Option<BTreeMap<String, Value>>,
    /// Variables of all that runs in it, in the clear
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// The name or path of its Python; an image without it is refused
    #[serde(default = "default_python")]
    #[schema(default = default_python)]
    python: String,
    /// What other builders do; refused by name.
    #[serde(default)]
    #[schema(ignore)]
    python_packages: Option<IgnoredAny>,
    #[serde(default)]
    #[schema(ignore)]
    commands: Option<IgnoredAny>,
}

/// A value of a credential, out of everybody's sight from here on.
#[derive(Deserialize)]
#[serde(transparent)]
struct Value(#[serde(deserialize_with = "secret")] SecretString);

fn default_python() -> String {
    "python3".to_owned()
}

impl NewImage {
    fn parse(self) -> Answer<BuildRequest> {
        let unsupported = [
            ("python_packages", self.python_packages.is_some()),
            ("commands", self.commands.is_some()),
        ];
        if let Some((field, _)) = unsupported.iter().find(|(_, is_there)| *is_there) {
            let message = format!("{field} is not supported: images are run as they are");
            return Err(Problem::new(Kind::Unsupported, message)
                .hint("build an image that has them, and name that"));
        }
        let base_image = Reference::parse(&self.base_image).map_err(|error| {
            let hint = error.hint().map(str::to_owned);
            Problem::invalid(format!("base_image: {error}")).hint_if(hint)
        })?;
        let credential = match self.credential {
            None => CredentialGiven::Stored,
            Some(keys) if keys.is_empty() => CredentialGiven::Anonymous,
            Some(keys) => {
                let keys = keys.into_iter().map(|(key, Value(value))| (key, value));
                CredentialGiven::Keys(keys.collect())
            }
        };
        Ok(BuildRequest {
            base_image,
            credential,
            environment: self.environment.into_iter().collect(),
            python: PythonAsked::Exactly(self.python),
        })
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownImage {
    id: String,
    /// As a pull names it
    reference: String,
    manifest_digest: String,
    python: ShownPython,
    created_at: String,
    /// What it was proven with; without, anybody may read it
    credential: Option<ShownCredential>,
    /// What whoever gave the credential might want to know
    hints: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ShownPython {
    program: String,
    version: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct ShownCredential {
    scope: String,
    kind: String,
    expires_at: Option<String>,
}

impl From<BuiltImage> for ShownImage {
    fn from(built: BuiltImage) -> Self {
        let image = built.image;
        Self {
            id: image.id.to_string(),
            reference: image.canonical,
            manifest_digest: image.manifest_digest.to_string(),
            python: ShownPython {
                program: built.python.program,
                version: built.python.version,
            },
            created_at: image.created_at.to_string(),
            credential: built.credential.map(ShownCredential::from),
            hints: built.hints,
        }
    }
}

impl From<ImageCredential> for ShownCredential {
    fn from(credential: ImageCredential) -> Self {
        Self {
            scope: credential.scope.to_string(),
            kind: credential.kind,
            expires_at: credential.expires_at.map(|at| at.to_string()),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Images {
    /// Newest first
    images: Vec<ShownImage>,
}

#[derive(Debug, Serialize)]
struct Progress {
    message: String,
}

/// The images that were built
#[utoipa::path(
    get,
    path = "/v1/images",
    responses((status = 200, body = Images), (status = "default", body = Failed))
)]
pub(super) async fn list(State(gateway): State<Gateway>, caller: Caller) -> Answer<Json<Images>> {
    let images = gateway.images(&caller).await?;
    let images = images.into_iter().map(ShownImage::from).collect();
    Ok(Json(Images { images }))
}

/// Build an image
///
/// Its registry is asked each time, with the credential that is given; what was built already is
/// found again. A build goes on when nobody waits for it. Who accepts `text/event-stream` is sent
/// events: `progress` with a `message`, and at the end `image`, or `error` with `kind`, `message`
/// and `hint`.
#[utoipa::path(
    post,
    path = "/v1/images",
    request_body = NewImage,
    responses(
        (
            status = 200,
            content((ShownImage = "application/json"), (String = "text/event-stream"))
        ),
        (status = "default", body = Failed)
    )
)]
pub(super) async fn build(
    State(gateway): State<Gateway>,
    caller: Caller,
    headers: HeaderMap,
    Body(new): Body<NewImage>,
) -> Answer<Response> {
    let building = gateway.build_image(&caller, new.parse()?).await?;
    if events::are_accepted(&headers) {
        return Ok(events::answer(events_of(building)));
    }
    let built = building.end().await?;
    Ok(Json(ShownImage::from(built)).into_response())
}

/// One image
#[utoipa::path(
    get,
    path = "/v1/images/{id}",
    params(("id" = String, Path, description = "sha256:…")),
    responses((status = 200, body = ShownImage), (status = "default", body = Failed))
)]
pub(super) async fn show(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<Digest>,
) -> Answer<Json<ShownImage>> {
    let image = gateway.image(&caller, &id).await?;
    Ok(Json(image.into()))
}

/// The events of a build. The stream ends with the last.
fn events_of(building: Building) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(Some(building), async |building| {
        let mut building = building?;
        match building.next().await {
            BuildEvent::Progress(message) => {
                Some((Ok(event("progress", &Progress { message })), Some(building)))
            }
            BuildEvent::Ended(ended) => {
                let last = match *ended {
                    Ok(built) => event("image", &ShownImage::from(built)),
                    Err(problem) => event("error", &Failure::from(problem)),
                };
                Some((Ok(last), None))
            }
        }
    })
}
