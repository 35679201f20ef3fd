//! A vault in a temporary directory, and what an operator says of services.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use credential::{SecretName, SecretString};
use ids::WorkspaceId;
use key_service::{Given, RootKeySource, ServiceSettings};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;
use vault::{KeeperProgram, KeyServiceError, NewSecret, Vault, VaultError, VaultPlace};

pub(crate) struct Stage {
    pub(crate) directory: TempDir,
    pub(crate) settings: ServiceSettings,
}

impl Stage {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) async fn open(&self, source: &str) -> Result<Vault, VaultError> {
        self.open_with(source, None).await
    }

    pub(crate) async fn open_with(
        &self,
        source: &str,
        next: Option<&str>,
    ) -> Result<Vault, VaultError> {
        let root_key = |source: &str| {
            let source = RootKeySource::parse(Path::new(source), None).expect("a source");
            // None of these sources has a keeper.
            let keeper = KeeperProgram {
                program: "/none".into(),
                arguments: Vec::new(),
            };
            source.root_key(keeper, &self.settings).expect("usable")
        };
        let current = root_key(source);
        Vault::open(VaultPlace {
            data: self.directory.path().to_owned(),
            server: None,
            root_key: match next {
                Some(next) => current.followed_by(root_key(next)),
                None => current,
            },
        })
        .await
    }

    /// What the service is said to have done, on the way to a new vault.
    pub(crate) async fn refused(&self, source: &str) -> (KeyServiceError, String) {
        let error = self.open(source).await.expect_err("a refusal");
        let hint = error.hint().expect("a hint");
        let VaultError::KeyService { source, .. } = error else {
            panic!("{error:?}");
        };
        (source, hint)
    }

    /// Puts the wrapped key of each of two workspaces in the place of the other.
    pub(crate) async fn swap_keys(&self, one: WorkspaceId, other: WorkspaceId) {
        let options = SqliteConnectOptions::new().filename(self.path("vault.db"));
        let mut connection = options.connect().await.expect("the vault's file");
        let (one, other) = (one.to_string(), other.to_string());
        for (into, from) in [
            ("spare", &one),
            (one.as_str(), &other),
            (&other, &"spare".into()),
        ] {
            sqlx::query(
                "INSERT INTO workspace_key
                 SELECT ?1, key_id, wrapped, created_at, root_key_id FROM workspace_key
                 WHERE workspace = ?2
                 ON CONFLICT DO UPDATE SET key_id = excluded.key_id, wrapped = excluded.wrapped",
            )
            .bind(into)
            .bind(from)
            .execute(&mut connection)
            .await
            .expect("swapped");
        }
        sqlx::query("DELETE FROM workspace_key WHERE workspace = 'spare'")
            .execute(&mut connection)
            .await
            .expect("removed");
        connection.close().await.expect("closed");
    }
}

pub(crate) fn given(path: &Path, text: &str) -> Given {
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("ours");
    Given::parse(path, None).expect("a path")
}

pub(crate) fn name() -> SecretName {
    SecretName::parse("a").expect("a name")
}

pub(crate) async fn put(vault: &Vault, workspace: WorkspaceId, value: &str) {
    let secret = NewSecret {
        name: &name(),
        kind: "opaque",
        scope: "",
        plaintext: &SecretString::from(value.to_owned()),
        in_clear: None,
    };
    vault.put(workspace, secret, "t").await.expect("sealed");
}
