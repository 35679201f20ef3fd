//! Named secrets of a workspace: values that its functions are given, sealed beside its registry
//! credentials and kept apart from them.
//!
//! Registry credentials have ways of their own, which check before they seal; their names are
//! refused here.

use credential::{SecretName, SecretString};
use ids::WorkspaceId;
use jiff::Timestamp;
use vault::{NewSecret, SealedVersion};

use crate::broker::Broker;
use crate::error::BrokerError;
use crate::lease::LeaseReader;

const KIND: &str = "secret";

/// A named secret without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSecret {
    pub name: SecretName,
    pub version: u32,
    pub sealed_at: Timestamp,
}

impl NamedSecret {
    /// The name of one, which is not that of a registry credential.
    pub fn parse_name(text: &str) -> Result<SecretName, BrokerError> {
        let name = SecretName::parse(text)?;
        if name.is_of_registry() {
            return Err(BrokerError::NameOfRegistry { name });
        }
        Ok(name)
    }
}

impl Broker {
    /// The named secrets of a workspace, by name.
    pub async fn named_secrets(
        &self,
        workspace: WorkspaceId,
    ) -> Result<Vec<NamedSecret>, BrokerError> {
        let rows = self.inner.vault.list(workspace).await?;
        let own = rows.into_iter().filter(|row| row.kind == KIND);
        let secret = |row: vault::SecretRow| {
            Some(NamedSecret {
                name: SecretName::parse(&row.name).ok()?,
                version: row.version,
                sealed_at: row.created_at,
            })
        };
        Ok(own.filter_map(secret).collect())
    }

    /// Seals a value, the first of its name or the next version.
    pub async fn set_named_secret(
        &self,
        workspace: WorkspaceId,
        name: &str,
        value: &SecretString,
        actor: &str,
    ) -> Result<NamedSecret, BrokerError> {
        let name = NamedSecret::parse_name(name)?;
        let secret = NewSecret {
            name: &name,
            kind: KIND,
            scope: "",
            plaintext: value,
            in_clear: None,
        };
        let sealed = self.inner.vault.put(workspace, secret, actor).await?;
        Ok(NamedSecret {
            name,
            version: sealed.version,
            sealed_at: self.inner.clock.now(),
        })
    }

    /// The value of a named secret. `purpose` stands in the audit log.
    pub async fn open_named_secret(
        &self,
        workspace: WorkspaceId,
        name: &str,
        purpose: &str,
    ) -> Result<SecretString, BrokerError> {
        let name = NamedSecret::parse_name(name)?;
        let vault = &self.inner.vault;
        let opened = vault.open_secret(workspace, &name, None, purpose).await?;
        Ok(opened.plaintext)
    }

    /// The same for a container, which has it then: that is in the audit log too.
    pub async fn give_named_secret(
        &self,
        workspace: WorkspaceId,
        name: &str,
        purpose: &str,
        to: &LeaseReader,
    ) -> Result<SecretString, BrokerError> {
        let name = NamedSecret::parse_name(name)?;
        let vault = &self.inner.vault;
        let opened = vault.open_secret(workspace, &name, None, purpose).await?;
        let sealed = SealedVersion {
            secret_id: opened.secret_id,
            version: opened.version,
        };
        vault
            .note_given(workspace, &name, sealed, &to.for_vault())
            .await?;
        Ok(opened.plaintext)
    }

    /// Removes a named secret and all its versions; answers the number of the last.
    pub async fn remove_named_secret(
        &self,
        workspace: WorkspaceId,
        name: &str,
        actor: &str,
    ) -> Result<u32, BrokerError> {
        let name = NamedSecret::parse_name(name)?;
        let removed = self.inner.vault.remove(workspace, &name, actor).await?;
        Ok(removed.version)
    }
}
