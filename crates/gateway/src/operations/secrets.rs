//! Named secrets of a workspace. Values come in and never go out.

use broker::NamedSecret;
use control_store::TokenScope;
use credential::SecretString;

use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::problem::{Kind, Problem, Refusal};

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

    /// Seals the first value of a name. Of two who do so at once both may be told that they did.
    pub(crate) async fn create_secret(
        &self,
        caller: &Caller,
        name: &str,
        value: &SecretString,
    ) -> Result<NamedSecret, Problem> {
        caller.must(TokenScope::Secrets)?;
        if self.has_secret(caller, name).await? {
            let message = format!("secret {name:?} is there already");
            return Err(Problem::new(Kind::Conflict, message).hint("modify it, or delete it first"));
        }
        self.set_secret(caller, name, value).await
    }

    /// Seals the next value of a name.
    pub(crate) async fn modify_secret(
        &self,
        caller: &Caller,
        name: &str,
        value: &SecretString,
    ) -> Result<NamedSecret, Problem> {
        caller.must(TokenScope::Secrets)?;
        if !self.has_secret(caller, name).await? {
            let message = format!("no secret {name:?} in this workspace");
            return Err(Problem::not_own(message).hint("create it first"));
        }
        self.set_secret(caller, name, value).await
    }

    pub(crate) async fn delete_secret(&self, caller: &Caller, name: &str) -> Result<(), Problem> {
        caller.must(TokenScope::Secrets)?;
        let (workspace, actor) = (caller.workspace(), caller.actor());
        let removed = self.broker().remove_named_secret(workspace, name, &actor);
        let Err(error) = removed.await else {
            return Ok(());
        };
        let problem = Problem::from(error);
        Err(match problem.kind {
            Kind::NotFound => problem.refuses(Refusal::Name),
            _ => problem,
        })
    }

    async fn has_secret(&self, caller: &Caller, name: &str) -> Result<bool, Problem> {
        let name = NamedSecret::parse_name(name)?;
        let secrets = self.broker().named_secrets(caller.workspace()).await?;
        Ok(secrets.iter().any(|secret| secret.name == name))
    }
}
