//! Named secrets of a workspace. Values come in and never go out.

use broker::NamedSecret;
use control_store::TokenScope;
use credential::SecretString;

use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::problem::Problem;

impl Gateway {
    pub(crate) async fn secrets(&self, caller: &Caller) -> Result<Vec<NamedSecret>, Problem> {
        caller.must(TokenScope::Read)?;
        Ok(self.broker().named_secrets(caller.workspace()).await?)
    }

    /// Seals a value, the first of its name or the next version.
    pub(crate) async fn set_secret(
        &self,
        caller: &Caller,
        name: &str,
        value: &SecretString,
    ) -> Result<NamedSecret, Problem> {
        caller.must(TokenScope::Secrets)?;
        let (workspace, actor) = (caller.workspace(), caller.actor());
        let sealed = self
            .broker()
            .set_named_secret(workspace, name, value, &actor);
        Ok(sealed.await?)
    }

    pub(crate) async fn delete_secret(&self, caller: &Caller, name: &str) -> Result<(), Problem> {
        caller.must(TokenScope::Secrets)?;
        let (workspace, actor) = (caller.workspace(), caller.actor());
        self.broker()
            .remove_named_secret(workspace, name, &actor)
            .await?;
        Ok(())
    }
}
