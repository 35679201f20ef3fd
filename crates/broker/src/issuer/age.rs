//! The age of the key that signs: a gateway that publishes the keys replaces one that is old.
//!
//! Documents that were exported are hosted by somebody else, who has to be first: what is there
//! does not change with our keys, and a token that a later key signs would be refused. That they
//! were exported is on record, and stays so when all keys are replaced. Where it is not, and nobody
//! asks this process for the documents, somebody may host a copy all the same. In both cases an old
//! key is told of, and left to people.

use std::sync::atomic::Ordering;
use std::time::Duration;

use credential::{SecretName, SecretString};
use jiff::Timestamp;
use vault::{NewSecret, VaultError, installation};

use super::Issuer;
use crate::broker::Broker;
use crate::error::BrokerError;

/// The record that documents were exported. Its value says nothing.
const EXPORT_NAME: &str = "issuer-export";
const EXPORT_KIND: &str = "issuer-export";

/// Who the audit log says it was that replaced an old key.
const ACTOR: &str = "issuer: the key was old";

/// What was found of the key that signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyLook {
    /// How long it has signed; nothing where there is none, or by a clock that was set back.
    pub age: Option<Duration>,
    pub replacement: KeyReplacement,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyReplacement {
    /// There is none, or it is young.
    NotDue,
    /// It was old, and the next one signs now.
    Replaced,
    /// It is old, and what is published elsewhere has to follow by hand.
    LeftToPeople(WhyLeft),
}

/// Why an old key is not replaced by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyLeft {
    /// The documents were exported, last at this time.
    Exported(Timestamp),
    /// Nobody has asked this process for them.
    NobodyAsks,
    /// The key that is to follow has not been published for long enough.
    NextIsYoung,
}

impl Broker {
    /// Has the next key of the issuer sign where the current one is old and this process is who
    /// publishes them. Makes no first keys.
    pub async fn replace_old_issuer_key(&self) -> Result<KeyLook, BrokerError> {
        let issuer = &self.inner.issuer;
        if !issuer.is_known() || issuer.current().await?.is_none() {
            return Ok(KeyLook {
                age: None,
                replacement: KeyReplacement::NotDue,
            });
        }
        let replacement = issuer.replace_if_old().await?;
        let since = issuer.public_keys().await?.signs_since();
        let age = issuer.clock.now().duration_since(since);
        Ok(KeyLook {
            age: Duration::try_from(age).ok(),
            replacement,
        })
    }

    /// Notes that somebody else hosts the issuer's documents from now on: its keys are then
    /// replaced by hand alone. To be noted before they are given out.
    pub async fn note_issuer_export(&self, actor: &str) -> Result<(), BrokerError> {
        let issuer = self.inner.issuer.with_url()?;
        let (name, plaintext) = (export_name(), SecretString::from("exported".to_owned()));
        let record = NewSecret {
            name: &name,
            kind: EXPORT_KIND,
            scope: "",
            plaintext: &plaintext,
            in_clear: None,
        };
        issuer.vault.put(installation(), record, actor).await?;
        Ok(())
    }

    /// Notes that nobody hosts them any more but a gateway. Whether anything was on record.
    pub async fn withdraw_issuer_export(&self, actor: &str) -> Result<bool, BrokerError> {
        let issuer = self.inner.issuer.with_url()?;
        let name = export_name();
        match issuer.vault.remove(installation(), &name, actor).await {
            Ok(_) => Ok(true),
            Err(VaultError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Issuer {
    async fn replace_if_old(&self) -> Result<KeyReplacement, BrokerError> {
        let keys = self.public_keys().await?;
        if !keys.is_old(self.clock.now()) {
            return Ok(KeyReplacement::NotDue);
        }
        if let Some(at) = self.exported_at().await? {
            return Ok(KeyReplacement::LeftToPeople(WhyLeft::Exported(at)));
        }
        if !self.is_asked.load(Ordering::Relaxed) {
            return Ok(KeyReplacement::LeftToPeople(WhyLeft::NobodyAsks));
        }
        let rotated = match self.rotate(ACTOR).await {
            Ok(()) => true,
            // Another process was first, or the next key is young.
            Err(BrokerError::IssuerTooEarly(_)) => false,
            Err(error) => return Err(error),
        };
        let keys = self.public_keys().await?;
        Ok(match keys.is_old(self.clock.now()) {
            // Also where the next key was made by a clock that was ahead, and another took its
            // place.
            true => KeyReplacement::LeftToPeople(WhyLeft::NextIsYoung),
            false if rotated => {
                self.is_asked.store(false, Ordering::Relaxed);
                KeyReplacement::Replaced
            }
            false => KeyReplacement::NotDue,
        })
    }

    /// When the documents were exported last, if they are hosted elsewhere since then.
    pub(super) async fn exported_at(&self) -> Result<Option<Timestamp>, BrokerError> {
        let rows = self.vault.list(installation()).await?;
        let record = rows.into_iter().find(|row| row.name == EXPORT_NAME);
        Ok(record.map(|record| record.created_at))
    }
}

fn export_name() -> SecretName {
    SecretName::parse(EXPORT_NAME).expect("it has the form of a name")
}
