//! The containers of functions: listed and stopped.

use control_store::{ContainerRecord, TokenScope};
use ids::ContainerId;

use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::problem::Problem;

impl Gateway {
    /// The containers of the workspace that have not ended.
    pub(crate) async fn containers(
        &self,
        caller: &Caller,
    ) -> Result<Vec<ContainerRecord>, Problem> {
        caller.must(TokenScope::Read)?;
        Ok(self.store().containers(caller.workspace()).await?)
    }

    /// Stops a container; its calls have a moment to end.
    pub(crate) async fn stop_container(
        &self,
        caller: &Caller,
        id: ContainerId,
    ) -> Result<ContainerRecord, Problem> {
        caller.must(TokenScope::Call)?;
        let workspace = caller.workspace();
        let found = self.store().container(workspace, id).await?;
        let unknown = || Problem::not_own(format!("no container {id} in this workspace"));
        let record = found.ok_or_else(unknown)?;
        self.dispatch().stop(&record).await;
        let after = self.store().container(workspace, id).await?;
        after.ok_or_else(unknown)
    }
}
