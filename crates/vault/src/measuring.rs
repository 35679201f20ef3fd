//! A door to the cipher alone, for the repository's bench: no part of the interface.
//!
//! What it seals is of no vault, under keys that nothing else has.

use ids::{SecretId, WorkspaceId};

use crate::error::Damage;
use crate::keys::Key;
use crate::seal::{self, Context, Fresh};

/// Seals a value as a version is sealed, opens it, and says how long what came out is. No disk.
#[derive(Debug)]
pub struct Cipher {
    key: Key,
    workspace: WorkspaceId,
    secret_id: SecretId,
}

impl Cipher {
    #[expect(
        clippy::new_without_default,
        reason = "a key is made, which a default does not say"
    )]
    pub fn new() -> Self {
        Self {
            key: Key::random(),
            workspace: WorkspaceId::new(),
            secret_id: SecretId::new(),
        }
    }

    pub fn seal_and_open(&self, plaintext: &[u8]) -> Result<usize, Damage> {
        let context = Context {
            vault_id: &[0; 16],
            workspace: self.workspace,
            secret_id: self.secret_id,
            version: 1,
            name: "registry/registry.test/acme",
            kind: "basic",
            scope: "registry.test/acme",
            in_clear: None,
        };
        let sealed = seal::seal(&self.key, &context, &Fresh::random(), plaintext);
        seal::open(&self.key, &context, &sealed).map(|opened| opened.len())
    }
}
