//! A key service in memory, whose answers are a test's. What has one name is one service.

#![allow(
    dead_code,
    reason = "the contract and the tests of the vault use some of it each"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::vault_api::{KeyService, KeyServiceError, ServiceAnswer, WrapContext};

const NONCE_BYTES: usize = 12;

static SERVICES: Mutex<BTreeMap<String, Fake>> = Mutex::new(BTreeMap::new());

/// What it does instead of its work.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Fails(KeyServiceError),
    /// This is what it has sealed.
    Seals(Vec<u8>),
    /// This is what it has opened.
    Opens(Vec<u8>),
    Versions(u32),
    /// It says which version is the newest, and is gone then.
    OnlyVersions,
    /// Seals and opens, and binds nothing.
    ForgetsContext,
}

#[derive(Clone, Debug)]
pub(crate) struct Fake {
    name: String,
    state: Arc<Mutex<State>>,
    /// Questions wait while it is set.
    held: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    versions: u32,
    fault: Option<Fault>,
    opened: usize,
}

impl Fake {
    pub(crate) fn named(name: &str) -> Self {
        let mut services = SERVICES.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Self {
            name: name.to_owned(),
            state: Arc::new(Mutex::new(State {
                versions: 1,
                fault: None,
                opened: 0,
            })),
            held: watch::Sender::new(false),
        };
        services.entry(name.to_owned()).or_insert_with(new).clone()
    }

    pub(crate) fn make_version(&self) {
        self.state().versions += 1;
    }

    pub(crate) fn answer(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    /// How often it has opened something.
    pub(crate) fn opened(&self) -> usize {
        self.state().opened
    }

    /// From now on whoever asks waits, or no more.
    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    async fn fault(&self) -> Result<Option<Fault>, KeyServiceError> {
        let mut held = self.held.subscribe();
        held.wait_for(|held| !held).await.unwrap();
        match self.state().fault.clone() {
            Some(Fault::Fails(error)) => Err(error),
            fault => Ok(fault),
        }
    }

    async fn working(&self) -> Result<Option<Fault>, KeyServiceError> {
        match self.fault().await? {
            Some(Fault::OnlyVersions) => Err(KeyServiceError::Unreachable {
                message: "it is gone".to_owned(),
            }),
            fault => Ok(fault),
        }
    }

    fn cipher(&self, version: u32) -> LessSafeKey {
        let named = format!("{} {version}", self.name);
        let key = digest(&SHA256, named.as_bytes());
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, key.as_ref()).unwrap())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bound(fault: Option<&Fault>, context: &WrapContext) -> Vec<u8> {
    match fault {
        Some(Fault::ForgetsContext) => Vec::new(),
        _ => context.bytes(),
    }
}

impl KeyService for Fake {
    fn source(&self) -> String {
        format!("fake:{}", self.name)
    }

    fn identity(&self) -> String {
        self.name.clone()
    }

    fn newest(&self) -> ServiceAnswer<'_, u32> {
        Box::pin(async {
            Ok(match self.fault().await? {
                Some(Fault::Versions(versions)) => versions,
                _ => self.state().versions,
            })
        })
    }

    fn seal<'a>(
        &'a self,
        version: u32,
        context: &'a WrapContext,
        plain: &'a [u8],
    ) -> ServiceAnswer<'a, Vec<u8>> {
        Box::pin(async move {
            let fault = self.working().await?;
            if let Some(Fault::Seals(sealed)) = fault {
                return Ok(sealed);
            }
            let mut nonce = [0; NONCE_BYTES];
            rand::fill(&mut nonce).unwrap();
            let mut sealed = plain.to_vec();
            let aad = Aad::from(bound(fault.as_ref(), context));
            let nonced = Nonce::assume_unique_for_key(nonce);
            let cipher = self.cipher(version);
            cipher
                .seal_in_place_append_tag(nonced, aad, &mut sealed)
                .unwrap();
            Ok([nonce.as_slice(), &sealed].concat())
        })
    }

    fn open<'a>(
        &'a self,
        version: u32,
        context: &'a WrapContext,
        sealed: &'a [u8],
    ) -> ServiceAnswer<'a, Option<Zeroizing<Vec<u8>>>> {
        Box::pin(async move {
            self.state().opened += 1;
            let fault = self.working().await?;
            if let Some(Fault::Opens(plain)) = fault {
                return Ok(Some(Zeroizing::new(plain)));
            }
            let Some((nonce, sealed)) = sealed.split_at_checked(NONCE_BYTES) else {
                return Ok(None);
            };
            let mut plain = sealed.to_vec();
            let aad = Aad::from(bound(fault.as_ref(), context));
            let nonced = Nonce::try_assume_unique_for_key(nonce).unwrap();
            let opened = self.cipher(version).open_in_place(nonced, aad, &mut plain);
            Ok(opened.ok().map(|plain| Zeroizing::new(plain.to_vec())))
        })
    }
}
