//! The secret of the shared cache: sealed like any, and nobody's workspace's.
//!
//! All gateways of an installation have the same one: it is made by whoever needs it first. Keys of
//! layers are made of it, and a layer's key is given to who may read the layer, with a row in the
//! audit log for the URL that comes with it.

use credential::SecretName;
use shared_cache::CacheSecret;
use vault::{NewSecret, installation};

use crate::broker::Broker;
use crate::error::BrokerError;

const NAME: &str = "shared-cache";
const KIND: &str = "shared-cache";
/// Who the audit log says it was that made it.
const ACTOR: &str = "shared cache";
const PURPOSE: &str = "share layers";

impl Broker {
    /// The secret of the shared cache, made where there is none.
    pub async fn shared_cache_secret(&self) -> Result<CacheSecret, BrokerError> {
        let vault = &self.inner.vault;
        let name = SecretName::parse(NAME).expect("it has the form of a name");
        if vault
            .current_version(installation(), &name)
            .await?
            .is_none()
        {
            let text = CacheSecret::random().to_text();
            let secret = NewSecret {
                name: &name,
                kind: KIND,
                scope: "",
                plaintext: &text,
                in_clear: None,
            };
            // Whoever was first, who opens next has what counts.
            vault.put_after(installation(), None, secret, ACTOR).await?;
        }
        let opened = vault.open_secret(installation(), &name, None, PURPOSE);
        let opened = opened.await?;
        CacheSecret::from_text(&opened.plaintext).ok_or(BrokerError::SharedCacheDamaged)
    }
}
