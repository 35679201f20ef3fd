//! What commands share: the settings, the data directory, and the parts that are opened when a
//! command first needs them.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use broker::{Broker, BrokerPaths, CredentialChoice, Lease, LeaseReader};
use control_store::StorePlace;
use credential::RegistryScope;
use database::{DatabaseAddress, Server};
use dial::Dialer;
use gateway::{Gateway, Parts};
use ids::WorkspaceId;
use image::Indexing;
use image_fs::{CacheLimits, SpanCache};
use image_store::ImageStore;
use key_service::RootKeySource;
use reference::Reference;
use registry_client::{RegistryClient, RetryPolicy};
use vault::{KeeperProgram, KeySource, RootKey, Vault, VaultPlace};

use crate::args::Global;
use crate::commands::roles;
use crate::failure::{Failure, Kind, Result};
use crate::output::Output;
use crate::settings::{
    self, CREDENTIALS_DIRECTORY, DatabaseServer, STATE_FILE, Settings, SharedCache, VAULT_FILE,
};

/// Who stands in the audit log for what a person did here.
pub(crate) const ACTOR: &str = "command line";

/// One run of the command line.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) settings: Settings,
    pub(crate) output: Output,
    /// Each opened once: opening waits for other processes and sweeps what they left.
    image_store: OnceLock<ImageStore>,
    span_cache: OnceLock<SpanCache>,
}

/// A workspace's broker, opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) broker: Broker,
    pub(crate) workspace: WorkspaceId,
    dialer: Dialer,
}

/// A lease on an image's repository, and the client that reads with it.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) lease: Arc<Lease>,
    pub(crate) client: RegistryClient,
}

impl App {
    pub(crate) fn new(global: &Global) -> Result<Self> {
        let settings = Settings::load(global)?;
        keep_from_children(&settings)?;
        Ok(Self {
            settings,
            output: Output { json: global.json },
            image_store: OnceLock::new(),
            span_cache: OnceLock::new(),
        })
    }

    /// Where the vault is, with the root key that is to follow, if one is configured.
    pub(crate) fn vault_place(&self) -> Result<VaultPlace> {
        self.vault_place_with(self.settings.root_key_next.as_ref())
    }

    /// The root keys are read by keepers, which opening starts, or stay in their services; they are
    /// not here, where registries are spoken to.
    pub(crate) fn vault_place_with(&self, next: Option<&RootKeySource>) -> Result<VaultPlace> {
        let current = self.root_key(&self.settings.root_key)?;
        let next = next.map(|next| self.root_key(next)).transpose()?;
        Ok(VaultPlace {
            data: self.settings.data_dir.clone(),
            server: self.server()?,
            root_key: match next {
                Some(next) => current.followed_by(next),
                None => current,
            },
        })
    }

    /// A root key in a keeper of its own, or in its service.
    fn root_key(&self, source: &RootKeySource) -> Result<RootKey> {
        refuse_nowhere(source)?;
        let keeper = KeeperProgram {
            program: own_program()?,
            arguments: vec![roles::KEY_KEEPER.into()],
        };
        let root_key = source.root_key(keeper, &self.settings.key_services);
        root_key.map_err(|error| settings::source_failure(&error))
    }

    pub(crate) async fn vault(&self) -> Result<Vault> {
        self.make_data_dir()?;
        Ok(Vault::open(self.vault_place()?).await?)
    }

    pub(crate) async fn open(&self) -> Result<Opened> {
        self.make_data_dir()?;
        let paths = BrokerPaths {
            vault: self.vault_place()?,
            state: self.state()?,
        };
        let dialer = Dialer::new(self.settings.dial.clone());
        // Boxed: what opens databases is long, and done once.
        let mut broker = Box::pin(Broker::open(paths, dialer.clone())).await?;
        if let Some(url) = &self.settings.issuer_url {
            broker = broker.issuing_as(url.clone());
        }
        broker = broker.granting_node_identities(self.settings.node_identities.clone());
        let workspace = broker.workspace(&self.settings.workspace).await?;
        Ok(Opened {
            broker,
            workspace,
            dialer,
        })
    }

    /// Where the state is kept.
    fn state(&self) -> Result<DatabaseAddress> {
        Ok(match self.server()? {
            Some(server) => DatabaseAddress::Server(server),
            None => DatabaseAddress::File(self.settings.data_dir.join(STATE_FILE)),
        })
    }

    /// The state, to be copied or put back whole.
    pub(crate) fn store_place(&self) -> Result<StorePlace> {
        self.make_data_dir()?;
        Ok(StorePlace {
            data: self.settings.data_dir.clone(),
            address: self.state()?,
        })
    }

    /// Says which files nobody reads any more, where one was moved to a server.
    pub(crate) fn note_unread_files(&self) {
        for unread in self.settings.files_beside_server() {
            let unread = unread.display();
            self.output.note(&format!(
                "{unread} is not read any more, since the configuration names a database; remove \
                 it when nothing in it is needed"
            ));
        }
    }

    /// The server that keeps the vault and the state, where they are no files.
    fn server(&self) -> Result<Option<Server>> {
        let named = self.settings.database.as_ref();
        named.map(DatabaseServer::server).transpose()
    }

    /// The same where there is one: a question makes no installation. Whoever named a server has
    /// one, and what is on it is known by opening it.
    pub(crate) async fn open_if_there(&self) -> Result<Option<Opened>> {
        if self.settings.database.is_some() {
            return Ok(Some(self.open().await?));
        }
        let database = self.settings.data_dir.join(VAULT_FILE);
        match database.try_exists() {
            Ok(true) => Ok(Some(self.open().await?)),
            Ok(false) => Ok(None),
            Err(error) => Err(Failure::new(
                Kind::Machine,
                format!("{}: {error}", database.display()),
            )),
        }
    }

    pub(crate) fn image_store(&self) -> Result<ImageStore> {
        once(&self.image_store, || {
            self.make_data_dir()?;
            Ok(ImageStore::open(&self.settings.data_dir)?)
        })
    }

    pub(crate) fn cache_dir(&self) -> PathBuf {
        self.settings.data_dir.join("cache")
    }

    pub(crate) fn span_cache(&self) -> Result<SpanCache> {
        once(&self.span_cache, || {
            self.make_data_dir()?;
            let limits = CacheLimits {
                max_bytes: self.settings.cache_limit_bytes,
            };
            Ok(SpanCache::open(&self.cache_dir(), limits)?)
        })
    }

    pub(crate) fn indexing(&self) -> Result<Indexing> {
        Ok(Indexing {
            store: self.image_store()?,
            cache: Some(self.span_cache()?),
            program: own_program()?,
        })
    }

    /// What programs call, of an installation that is open.
    pub(crate) fn gateway(&self, opened: &Opened) -> Result<Gateway> {
        let declared = self.settings.shared_cache.as_deref();
        let shared_cache = declared.map(SharedCache::settings);
        Ok(Gateway::open(Parts {
            broker: opened.broker.clone(),
            dialer: opened.dialer.clone(),
            indexing: self.indexing()?,
            shared_cache: shared_cache.transpose()?,
            probe: None,
        }))
    }

    /// Where containers live while they run.
    pub(crate) fn containers_dir(&self) -> PathBuf {
        self.settings.run_dir.join("containers")
    }

    /// Which ids belong to which workspace.
    pub(crate) fn ids_dir(&self) -> PathBuf {
        self.settings.data_dir.join("ids")
    }

    /// Private to its owner: the databases are sealed, indexes and cached spans are not.
    pub(crate) fn make_data_dir(&self) -> Result<()> {
        let path = &self.settings.data_dir;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| {
            let failure = Failure::new(Kind::Machine, format!("{}: {error}", path.display()));
            failure.hint("run as root, or name another place with --data-dir")
        })
    }
}

impl Opened {
    /// A lease for `image`, and a client that reads with it.
    pub(crate) async fn reader(
        &self,
        reader: LeaseReader,
        image: &Reference,
        credential: Option<&str>,
    ) -> Result<Reader> {
        let choice = choice(credential)?;
        let leasing = self.broker.lease_for(reader, self.workspace, image, choice);
        let lease = Arc::new(leasing.await?);
        let client = self.client(&lease, RetryPolicy::default())?;
        Ok(Reader { lease, client })
    }

    /// A client that reads with a lease.
    pub(crate) fn client(&self, lease: &Arc<Lease>, retry: RetryPolicy) -> Result<RegistryClient> {
        let (endpoint, source) = (lease.endpoint().clone(), lease.own_source());
        Ok(RegistryClient::with_retry(
            &self.dialer,
            endpoint,
            source,
            retry,
        )?)
    }
}

/// A key that came as an open file is for our keeper alone, which is sent it.
fn keep_from_children(settings: &Settings) -> Result<()> {
    for source in [Some(&settings.root_key), settings.root_key_next.as_ref()] {
        if let Some(RootKeySource::Kept(KeySource::Descriptor(number))) = source {
            container::keep_from_children(*number).map_err(|error| {
                Failure::new(Kind::Machine, format!("root key fd:{number}: {error}"))
            })?;
        }
    }
    Ok(())
}

fn refuse_nowhere(source: &RootKeySource) -> Result<()> {
    if let RootKeySource::Kept(KeySource::Credential {
        directory: None, ..
    }) = source
    {
        let problem = format!("root key {source}: there is no ${CREDENTIALS_DIRECTORY}");
        let hint = "credentials are there for a service: run this as one, such as with \
                    `systemd-run --pty -p LoadCredentialEncrypted=NAME:FILE holdfast …`";
        return Err(Failure::invalid(problem).hint(hint));
    }
    Ok(())
}

/// What is in the slot, or what `open` puts there.
fn once<T: Clone>(slot: &OnceLock<T>, open: impl FnOnce() -> Result<T>) -> Result<T> {
    if let Some(opened) = slot.get() {
        return Ok(opened.clone());
    }
    let opened = open()?;
    Ok(slot.get_or_init(|| opened).clone())
}

fn choice(credential: Option<&str>) -> Result<CredentialChoice> {
    match credential {
        None => Ok(CredentialChoice::Auto),
        Some("none") => Ok(CredentialChoice::None),
        Some(scope) => Ok(CredentialChoice::Scope(parse_scope(scope)?)),
    }
}

/// Reads a registry scope that a user typed.
pub(crate) fn parse_scope(text: &str) -> Result<RegistryScope> {
    RegistryScope::parse(text).map_err(|error| {
        let hint = error.hint();
        Failure::invalid(format!("scope {text:?}: {error}")).hint_if(hint)
    })
}

/// The binary that hidden roles are started from.
pub(crate) fn own_program() -> Result<PathBuf> {
    let found = std::env::current_exe();
    found.map_err(|error| Failure::new(Kind::Machine, format!("own program: {error}")))
}
