//! Where things are on this machine: flag, then environment, then the configuration file.
//!
//! The file is optional where it is not named; a field it does not know is refused, since a
//! misspelt setting that is ignored is worse than none. Nothing secret stands in it.

mod node_identities;
mod shared_cache;

use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker::{IssuerUrl, NodeGrant};
use container::DEFAULT_FIRST_ID;
use database::Server;
use dial::{AllowRule, DialPolicy, ProxySettings};
use ids::WorkspaceName;
use key_service::{
    Given, KmsSettings, RootKeySource, ServiceSettings, SourceError, TransitSettings,
};
use serde::Deserialize;
use vault::KeySource;

use crate::args::Global;
use crate::bounded_file;
use crate::failure::{Failure, Kind, Result};

use node_identities::NodeIdentityFile;
use shared_cache::SharedCacheFile;

pub(crate) use shared_cache::SharedCache;

const CONFIG_FILE: &str = "/etc/holdfast/holdfast.toml";
const DATA_DIR: &str = "/var/lib/holdfast";
const ROOT_KEY: &str = "/etc/holdfast/root.key";
/// Where systemd says that the credentials of a service are.
pub(crate) const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// In the data directory, where no server keeps the vault and the state.
pub(crate) const VAULT_FILE: &str = "vault.db";
pub(crate) const STATE_FILE: &str = "state.db";
/// Below the data directory: what a container writes goes there, and needs a disk, which `/run` is
/// not.
const RUN_DIR: &str = "run";

/// A machine for running images has tens of gigabytes; the cache may have a few of them.
const CACHE_LIMIT: &str = "20g";

/// Root in a container is nobody on the machine unless somebody asks for less.
const USERNS: &str = "private";

/// Longer is no password: PostgreSQL takes no more than a few hundred bytes of one.
const PASSWORD_MAX_BYTES: u64 = 1024;

/// A container that lives on has the link to itself most of the time, and what it reads later is
/// there then, as for the next one of its image. A start has none of it, nor has a short command.
const FILL: &str = "idle";

/// Larger is no configuration.
const CONFIG_MAX_BYTES: u64 = 64 << 10;

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The configuration file that was named.
    pub(crate) config: Option<PathBuf>,
    pub(crate) data_dir: PathBuf,
    /// Somebody means this one: it was typed, or is in the environment.
    pub(crate) is_data_dir_named: bool,
    /// The server that keeps the vault and the state, where they are no files of the data
    /// directory.
    pub(crate) database: Option<DatabaseServer>,
    pub(crate) root_key: RootKeySource,
    /// The source of the root key that is to follow.
    pub(crate) root_key_next: Option<RootKeySource>,
    /// How services that keep root keys are asked.
    pub(crate) key_services: ServiceSettings,
    /// Where the end of the audit chain is noted.
    pub(crate) audit_anchor: Option<PathBuf>,
    /// Mounts and containers, with what they write while they run.
    pub(crate) run_dir: PathBuf,
    pub(crate) workspace: WorkspaceName,
    pub(crate) cache_limit_bytes: u64,
    /// What becomes of the rest of an image while its container runs.
    pub(crate) fill: Filling,
    /// Whose ids containers have that do not say.
    pub(crate) userns: Userns,
    /// Where the ids of containers begin.
    pub(crate) userns_first_id: u32,
    /// The operator's word on where connections may go, and the proxies of the environment.
    pub(crate) dial: DialPolicy,
    /// By whom clouds are told which workspace asks.
    pub(crate) issuer_url: Option<IssuerUrl>,
    /// Identities of this machine that workspaces may use, by name.
    pub(crate) node_identities: HashMap<String, NodeGrant>,
    /// Where a gateway shares layers among its workers.
    pub(crate) shared_cache: Option<Arc<SharedCache>>,
    /// What callers are shown, where no flag names it.
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
}

/// A database on a server.
#[derive(Clone, Debug)]
pub(crate) struct DatabaseServer {
    server: Server,
    /// Where the password is, if one is asked for.
    password: Option<Given>,
}

impl DatabaseServer {
    /// With the password as it is now.
    pub(crate) fn server(&self) -> Result<Server> {
        let server = self.server.clone();
        let Some(password) = &self.password else {
            return Ok(server);
        };
        let text = password.read(PASSWORD_MAX_BYTES);
        let text = text.map_err(|error| Failure::of(Kind::Machine, &error))?;
        let line = text.trim_end_matches(['\r', '\n']);
        if line.is_empty() || line.contains(['\0', '\n']) {
            return Err(Failure::invalid(format!(
                "{password} is not a line of a password"
            )));
        }
        Ok(server.with_password(line.to_owned().into()))
    }
}

impl Display for DatabaseServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.server.fmt(formatter)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    database: Option<String>,
    database_password: Option<PathBuf>,
    root_key: Option<PathBuf>,
    root_key_next: Option<PathBuf>,
    audit_anchor: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    workspace: Option<String>,
    cache_limit: Option<String>,
    fill: Option<String>,
    userns: Option<String>,
    userns_first_id: Option<u32>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    #[serde(default)]
    dial: DialFile,
    #[serde(default)]
    issuer: IssuerFile,
    aws_kms: Option<AwsKmsFile>,
    vault_transit: Option<VaultTransitFile>,
    shared_cache: Option<SharedCacheFile>,
    #[serde(default)]
    node_identity: HashMap<String, NodeIdentityFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AwsKmsFile {
    credentials: PathBuf,
    endpoint: Option<String>,
    ca_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerFile {
    /// Where clouds find its keys.
    url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DialFile {
    /// Networks, addresses and host names that may be dialled whatever their class.
    #[serde(default)]
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VaultTransitFile {
    token: PathBuf,
    namespace: Option<String>,
    ca_file: Option<PathBuf>,
}

/// Whose user and group ids a container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Userns {
    /// A range of its workspace's own.
    Private,
    /// The machine's.
    Host,
}

impl Userns {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "private" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            other => Err(Failure::invalid(format!(
                "user namespace {other:?} is neither private nor host"
            ))),
        }
    }
}

/// Whether what nobody has read of an image comes into the cache while its container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filling {
    /// Once the start is over, while nobody reads.
    WhenIdle,
    Never,
}

impl Filling {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "idle" => Ok(Self::WhenIdle),
            "never" => Ok(Self::Never),
            other => Err(Failure::invalid(format!(
                "fill {other:?} is neither idle nor never"
            ))),
        }
    }
}

impl Settings {
    /// `global` holds what was typed, or else the environment.
    pub(crate) fn load(global: &Global) -> Result<Self> {
        let file = match &global.config {
            Some(path) => read(path)?,
            None => read_if_there(Path::new(CONFIG_FILE))?,
        };
        let limit = file.cache_limit.as_deref().unwrap_or(CACHE_LIMIT);
        let choose = |typed: &Option<PathBuf>, stored: Option<PathBuf>, fallback: &str| {
            typed.clone().or(stored).unwrap_or_else(|| fallback.into())
        };
        let data_dir = choose(&global.data_dir, file.data_dir, DATA_DIR);
        let run_dir = global.run_dir.clone().or(file.run_dir);
        let dial = dial_policy(&file.dial)?;
        let settings = Self {
            config: global.config.clone(),
            run_dir: run_dir.unwrap_or_else(|| data_dir.join(RUN_DIR)),
            data_dir,
            is_data_dir_named: global.data_dir.is_some(),
            database: database(file.database.as_deref(), file.database_password.as_deref())?,
            root_key: key_source(&choose(&global.root_key, file.root_key, ROOT_KEY))?,
            root_key_next: file.root_key_next.as_deref().map(key_source).transpose()?,
            audit_anchor: file.audit_anchor,
            workspace: global
                .workspace
                .as_deref()
                .or(file.workspace.as_deref())
                .map_or_else(|| Ok(WorkspaceName::default()), WorkspaceName::parse)
                .map_err(Failure::invalid)?,
            cache_limit_bytes: parse_size(limit)?,
            fill: Filling::parse(file.fill.as_deref().unwrap_or(FILL))?,
            userns: Userns::parse(file.userns.as_deref().unwrap_or(USERNS))?,
            userns_first_id: file.userns_first_id.unwrap_or(DEFAULT_FIRST_ID),
            key_services: ServiceSettings {
                aws_kms: file.aws_kms.map(kms_settings).transpose()?,
                vault_transit: file.vault_transit.map(transit_settings).transpose()?,
                dial: dial.clone(),
            },
            dial,
            issuer_url: global
                .issuer_url
                .as_deref()
                .or(file.issuer.url.as_deref())
                .map(issuer_url)
                .transpose()?,
            node_identities: node_identities::grants(file.node_identity)?,
            shared_cache: file
                .shared_cache
                .map(shared_cache::shared_cache)
                .transpose()?
                .map(Arc::new),
            tls_cert: file.tls_cert,
            tls_key: file.tls_key,
        };
        settings.check()
    }

    /// Files of a vault and a state that are not read, since a server is named.
    pub(crate) fn files_beside_server(&self) -> Vec<PathBuf> {
        if self.database.is_none() {
            return Vec::new();
        }
        let files = [VAULT_FILE, STATE_FILE].map(|name| self.data_dir.join(name));
        files.into_iter().filter(|file| file.exists()).collect()
    }

    fn check(self) -> Result<Self> {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let data_dir = absolute(&self.data_dir);
        let outside = |source: RootKeySource| match source {
            RootKeySource::Kept(KeySource::File(path)) => check_outside(absolute(&path), &data_dir),
            other => Ok(other),
        };
        Ok(Self {
            root_key: outside(self.root_key)?,
            root_key_next: self.root_key_next.map(outside).transpose()?,
            run_dir: absolute(&self.run_dir),
            data_dir,
            ..self
        })
    }
}

/// Where a root key comes from, as it is written.
pub(crate) fn key_source(text: &Path) -> Result<RootKeySource> {
    RootKeySource::parse(text, credentials_directory().as_deref())
        .map_err(|error| source_failure(&error))
}

pub(crate) fn source_failure(error: &SourceError) -> Failure {
    Failure::of(Kind::Invalid, error).hint(error.hint())
}

fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os(CREDENTIALS_DIRECTORY).map(PathBuf::from)
}

fn kms_settings(file: AwsKmsFile) -> Result<KmsSettings> {
    Ok(KmsSettings {
        credentials: given(&file.credentials)?,
        endpoint: file.endpoint,
        ca_file: file.ca_file,
    })
}

fn transit_settings(file: VaultTransitFile) -> Result<TransitSettings> {
    Ok(TransitSettings {
        token: given(&file.token)?,
        namespace: file.namespace,
        ca_file: file.ca_file,
    })
}

/// The credential for a service, which is read when that is asked.
fn given(text: &Path) -> Result<Given> {
    let given = Given::parse(text, credentials_directory().as_deref());
    given.map_err(|error| source_failure(&error.into()))
}

/// The server of a database, whose password stands in a file of its own.
fn database(address: Option<&str>, password: Option<&Path>) -> Result<Option<DatabaseServer>> {
    let Some(address) = address else {
        return match password {
            Some(_) => Err(Failure::invalid(
                "database_password is set, and no database",
            )),
            None => Ok(None),
        };
    };
    let server = Server::parse(address).map_err(|error| {
        let hint = error.hint().map(str::to_owned);
        Failure::invalid(error).hint_if(hint)
    })?;
    let password = password.map(given).transpose()?;
    Ok(Some(DatabaseServer { server, password }))
}

fn check_outside(root_key: PathBuf, data_dir: &Path) -> Result<RootKeySource> {
    // Links tell where they lead once they are there; what is new is looked at by the vault.
    let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if !resolved(&root_key).starts_with(resolved(data_dir)) {
        return Ok(RootKeySource::Kept(KeySource::File(root_key)));
    }
    let (key, data) = (root_key.display(), data_dir.display());
    Err(
        Failure::invalid(format!("the root key {key} lies inside {data}"))
            .hint("a copy of the data directory must not hold the key to it"),
    )
}

fn read_if_there(path: &Path) -> Result<File> {
    if path.exists() {
        read(path)
    } else {
        Ok(File::default())
    }
}

fn read(path: &Path) -> Result<File> {
    let at = |problem: &dyn Display| Failure::invalid(format!("{}: {problem}", path.display()));
    let read = bounded_file::read(path, CONFIG_MAX_BYTES).and_then(bounded_file::text);
    let text = read.map_err(|error| at(&error))?;
    toml::from_str(&text).map_err(|error| at(&error.message()))
}

fn issuer_url(text: &str) -> Result<IssuerUrl> {
    IssuerUrl::parse(text)
        .map_err(|error| Failure::invalid(format!("URL of the issuer, {text:?}, {error}")))
}

fn dial_policy(file: &DialFile) -> Result<DialPolicy> {
    let rules = file.allow.iter().map(|rule| rule.parse::<AllowRule>());
    Ok(DialPolicy {
        allow: rules.collect::<Result<_, _>>().map_err(Failure::invalid)?,
        proxies: ProxySettings::from_environment(),
        ..DialPolicy::default()
    })
}

/// `64m`, `2g`, `1048576`: binary units, as docker's `--shm-size` and `--memory` take them.
pub(crate) fn parse_size(text: &str) -> Result<u64> {
    container::parse_size_bytes(text)
        .map_err(|error| Failure::invalid(error).hint("such as 512m or 2g"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounded_file::tests::pipe_of;

    #[test]
    fn an_unknown_setting_is_refused() {
        assert!(toml::from_str::<File>("data_dir = \"/x\"").is_ok());
        assert!(toml::from_str::<File>("datadir = \"/x\"").is_err());
    }

    #[test]
    fn a_database_is_named_without_its_password() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        let address = Some("postgres://holdfast@db.example/state");
        let error = database(Some("postgres://a:canary@h/n"), None).unwrap_err();
        assert!(!error.message.contains("canary"), "{error:?}");
        assert!(error.hint.unwrap().contains("file"));
        database(None, Some(&path)).unwrap_err();

        let named = database(address, Some(&path)).unwrap().unwrap();
        assert_eq!(
            named.to_string(),
            "postgres://holdfast@db.example:5432/state"
        );
        named.server().unwrap_err();
        let write = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(&path, mode).unwrap();
        };
        for (text, mode) in [
            ("canary", 0o644),
            ("", 0o600),
            ("\n", 0o600),
            ("a\ncanary", 0o600),
        ] {
            write(text, mode);
            let error = named.server().unwrap_err();
            assert!(!error.message.contains("canary"), "{error:?}");
        }
        write("canary\n", 0o600);
        let server = named.server().unwrap();
        assert!(!format!("{server} {server:?}").contains("canary"));
        assert!(database(None, None).unwrap().is_none());
    }

    #[test]
    fn what_shows_no_length_is_bounded_too() {
        let (_pipe, path) = pipe_of(b'#', CONFIG_MAX_BYTES);
        assert!(read(&path).is_ok());
        let (_pipe, path) = pipe_of(b'#', CONFIG_MAX_BYTES + 1);
        assert!(read(&path).unwrap_err().message.contains("longer than"));
    }
}
