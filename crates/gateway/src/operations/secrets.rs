//! Named secrets of a workspace. Values come in and never go out.

use control_store::TokenScope;
use credential::{SecretName, SecretString};
use jiff::Timestamp;
use vault::NewSecret;

use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::problem::Problem;

/// The kind that these secrets have in the vault, as the command line's have.
const KIND: &str = "secret";

/// A secret as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretRow {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) updated_at: Timestamp,
}

impl Gateway {
    pub(crate) async fn secrets(&self, caller: &Caller) -> Result<Vec<SecretRow>, Problem> {
        caller.must(TokenScope::Read)?;
        let rows = self.broker().vault().list(caller.workspace()).await?;
        let own = rows.into_iter().filter(|row| row.kind == KIND);
        let row = own.map(|row| SecretRow {
            name: row.name,
            version: row.version,
            updated_at: row.created_at,
        });
        Ok(row.collect())
    }

    /// Seals a value, the first of its name or the next version.
    pub(crate) async fn set_secret(
        &self,
        caller: &Caller,
        name: &str,
        value: &SecretString,
    ) -> Result<SecretRow, Problem> {
        caller.must(TokenScope::Secrets)?;
        let name = parse_name(name)?;
        let secret = NewSecret {
            name: &name,
            kind: KIND,
            scope: "",
            plaintext: value,
        };
        let vault = self.broker().vault();
        let sealed = vault
            .put(caller.workspace(), secret, &caller.actor())
            .await?;
        Ok(SecretRow {
            name: name.as_str().to_owned(),
            version: sealed.version,
            updated_at: Timestamp::now(),
        })
    }

    pub(crate) async fn delete_secret(&self, caller: &Caller, name: &str) -> Result<(), Problem> {
        caller.must(TokenScope::Secrets)?;
        let name = parse_name(name)?;
        let vault = self.broker().vault();
        vault
            .remove(caller.workspace(), &name, &caller.actor())
            .await?;
        Ok(())
    }
}

/// Registry credentials lie beside these secrets and are none: they are checked before they are
/// sealed.
fn parse_name(text: &str) -> Result<SecretName, Problem> {
    let name = SecretName::parse(text).map_err(Problem::invalid)?;
    if name.is_of_registry() {
        let problem = Problem::invalid("that is the name of a registry credential");
        return Err(problem.hint("`holdfast login` and `holdfast logout` are for those"));
    }
    Ok(name)
}
