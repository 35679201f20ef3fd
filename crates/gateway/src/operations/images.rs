//! Images that functions run in: built from a registry's with a credential, shown, and opened when
//! a container is started.

mod access;
mod build;
mod open;
mod warm;

use std::collections::{BTreeMap, HashMap};

use broker::CredentialRow;
use control_store::{GrantProof, Image, Python, TokenScope};
use credential::{ExposeSecret, RegistryScope, SecretString};
use ids::{SecretId, WorkspaceId};
use jiff::Timestamp;
use reference::{Digest, Reference};
use tokio::sync::{mpsc, oneshot};

use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::problem::{Kind, Problem};

pub use open::OpenImage;
pub(crate) use open::Proofs;
pub use warm::{WarmEvent, WarmRequest, Warmed, Warming};

/// An image that somebody wants to run functions in.
#[derive(Debug)]
pub struct BuildRequest {
    pub base_image: Reference,
    pub credential: CredentialGiven,
    /// Variables of all that runs in it.
    pub environment: Vec<(String, String)>,
    pub python: PythonAsked,
}

/// Which Python an image is to have: a name that is looked up, or a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PythonAsked {
    /// This one and no other; the usual names stand for one another.
    Exactly(String),
    /// Another one where it is not there: the `beta9` client names the version of its own machine
    /// where nobody named one.
    Rather(String),
}

/// What the registry is to be shown.
#[derive(Debug)]
pub enum CredentialGiven {
    /// What a login has stored for the image, and else nothing.
    Stored,
    /// Nothing, whatever is stored.
    Anonymous,
    /// A credential by its keys. An empty value is that of the workspace's secret of the key's
    /// name.
    Keys(BTreeMap<String, SecretString>),
}

impl CredentialGiven {
    /// Whether secrets of the workspace are to be filled in.
    fn names_secrets(&self) -> bool {
        match self {
            Self::Stored | Self::Anonymous => false,
            Self::Keys(keys) => keys.values().any(|value| value.expose_secret().is_empty()),
        }
    }
}

/// An image that functions can run in.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    pub image: Image,
    pub python: Python,
    /// What it was proven with; nothing where anybody may read it.
    pub credential: Option<ImageCredential>,
    /// What whoever gave the credential might want to know.
    pub hints: Vec<String>,
}

/// The credential that an image is read with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageCredential {
    pub scope: RegistryScope,
    pub kind: String,
    /// When it says that it ends.
    pub expires_at: Option<Timestamp>,
}

/// A build that is under way. It goes on when this is dropped, and the same request finds it.
#[derive(Debug)]
pub struct Building {
    lines: mpsc::Receiver<String>,
    outcome: oneshot::Receiver<Result<BuiltImage, Problem>>,
}

/// What is to be said of a build.
#[derive(Debug)]
pub enum BuildEvent {
    Progress(String),
    /// The last one.
    Ended(Box<Result<BuiltImage, Problem>>),
}

impl Building {
    /// What happens next. Not to be asked after the end.
    pub async fn next(&mut self) -> BuildEvent {
        tokio::select! {
            biased;
            Some(line) = self.lines.recv() => BuildEvent::Progress(line),
            outcome = &mut self.outcome => {
                BuildEvent::Ended(Box::new(outcome.unwrap_or_else(|_| Err(broken()))))
            }
        }
    }

    /// How it ends.
    pub async fn end(self) -> Result<BuiltImage, Problem> {
        self.outcome.await.unwrap_or_else(|_| Err(broken()))
    }
}

/// A build that ended without a word has panicked, which the log has.
fn broken() -> Problem {
    Problem::new(Kind::Internal, "the build broke off").hint("the gateway's log says why")
}

impl Gateway {
    /// The images that were built for functions, newest first.
    pub async fn images(&self, caller: &Caller) -> Result<Vec<BuiltImage>, Problem> {
        caller.must(TokenScope::Read)?;
        let workspace = caller.workspace();
        let images = self.store().images(workspace).await?;
        let credentials = self.credentials(workspace).await?;
        let mut built = Vec::with_capacity(images.len());
        for image in images {
            if image.python.is_some() {
                built.push(self.built(workspace, image, &credentials).await?);
            }
        }
        Ok(built)
    }

    pub async fn image(&self, caller: &Caller, id: &Digest) -> Result<BuiltImage, Problem> {
        caller.must(TokenScope::Read)?;
        self.built_image(caller.workspace(), id).await
    }

    /// An image of the workspace that functions can run in.
    pub(crate) async fn built_image(
        &self,
        workspace: WorkspaceId,
        id: &Digest,
    ) -> Result<BuiltImage, Problem> {
        let image = self.store().image(workspace, id).await?;
        let image = image.ok_or_else(|| no_image(id))?;
        let credentials = self.credentials(workspace).await?;
        self.built(workspace, image, &credentials).await
    }

    async fn credentials(&self, workspace: WorkspaceId) -> Result<Credentials, Problem> {
        let rows = self.broker().list(workspace).await?;
        let by_id = rows.into_iter().map(|row| (row.secret_id, row));
        Ok(by_id.collect())
    }

    async fn built(
        &self,
        workspace: WorkspaceId,
        image: Image,
        credentials: &Credentials,
    ) -> Result<BuiltImage, Problem> {
        let python = image.python.clone().ok_or_else(|| no_image(&image.id))?;
        let grant = self.store().grant(workspace, &image.id, &image.origin);
        let proof = grant.await?.map(|grant| grant.proof);
        let row = match proof {
            Some(GrantProof::Credential(proven)) => credentials.get(&proven.secret_id),
            _ => None,
        };
        Ok(BuiltImage {
            image,
            python,
            credential: row.map(ImageCredential::from),
            hints: Vec::new(),
        })
    }
}

/// The credentials of a workspace.
type Credentials = HashMap<SecretId, CredentialRow>;

impl From<&CredentialRow> for ImageCredential {
    fn from(row: &CredentialRow) -> Self {
        Self {
            scope: row.scope.clone(),
            kind: row.kind.clone(),
            expires_at: row.not_after,
        }
    }
}

fn no_image(id: &Digest) -> Problem {
    Problem::not_own(format!("no image {id} in this workspace"))
        .hint("build it: its registry is asked whether this workspace may have it")
}
