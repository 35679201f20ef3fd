//! A function as its calls are dispatched: its pool, and the versions of its secrets.

use std::sync::Arc;

use control_store::Stub;
use ids::{StubId, WorkspaceId};

use super::container::SecretVersions;
use super::pool::Pool;
use crate::gateway::Gateway;
use crate::problem::Problem;

impl Gateway {
    /// The pool of a function of this workspace.
    pub(crate) async fn pool(
        &self,
        workspace: WorkspaceId,
        stub: StubId,
    ) -> Result<Arc<Pool>, Problem> {
        let unknown = || Problem::not_own(format!("no stub {stub} in this workspace"));
        if let Some(pool) = self.dispatch().known_pool(stub) {
            return if pool.stub.workspace == workspace {
                Ok(pool)
            } else {
                Err(unknown())
            };
        }
        let found = self.store().stub(workspace, stub).await?;
        Ok(self.dispatch().pool(found.ok_or_else(unknown)?))
    }

    /// The versions of a function's secrets that are current.
    pub(crate) async fn current_secrets(&self, stub: &Stub) -> Result<SecretVersions, Problem> {
        let names = &stub.definition.secrets;
        if names.is_empty() {
            return Ok(SecretVersions::new());
        }
        let all = self.broker().named_secrets(stub.workspace).await?;
        let own = all.into_iter().filter(|secret| {
            let name = secret.name.as_str();
            names.iter().any(|wanted| wanted == name)
        });
        Ok(own
            .map(|secret| (secret.name.as_str().to_owned(), secret.version))
            .collect())
    }
}
