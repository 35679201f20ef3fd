//! The gateways that a person calls, by name: the file that the Python package reads, too.
//!
//! ```text
//! ~/.config/holdfast/config.toml       another place: $XDG_CONFIG_HOME/holdfast/config.toml
//!     current = "team"
//!     [contexts.team]
//!     gateway = "https://holdfast.example.com"
//!     token = "hf_…"
//!     ca_file = "/etc/ssl/team.pem"
//!     allow_plain_http = false
//! ```
//!
//! Its rules are those of `sdk/python/src/holdfast/_config.py`: a token is taken only from a file
//! that its owner alone can read and write, a field that is not known is refused, and no message
//! repeats a line. It is written whole or not at all, and what somebody else wrote there stays.

mod choice;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use credential::{ExposeSecret, SecretString};
use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use toml_edit::{DocumentMut, Item, Table, TableLike, Value, value};
use zeroize::Zeroizing;

use crate::bounded_file;
use crate::failure::{Failure, Kind, Result};
use crate::gateway_url::GatewayUrl;

pub(crate) use choice::{
    Asked, CONTEXT_VARIABLE, Connection, OwnGateway, check_way, choose, variable,
};

/// Larger is no configuration.
const FILE_LIMIT_BYTES: u64 = 1 << 20;
/// Bits of a mode by which others than the owner reach a file.
const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;
const NAME_LIMIT_BYTES: usize = 64;
const TOKEN_PREFIX: &str = "hf_";
/// Ours have a tenth of it.
const TOKEN_LIMIT_BYTES: usize = 1000;

/// What a context may have.
const FIELDS: [&str; 4] = ["gateway", "token", "ca_file", "allow_plain_http"];

/// One gateway, and how it is called.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) name: String,
    pub(crate) gateway: GatewayUrl,
    pub(crate) token: Option<SecretString>,
    /// The authority that its certificate is of, besides those of the machine.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) allow_plain_http: bool,
}

/// The file, as it was when it was read.
pub(crate) struct Contexts {
    path: PathBuf,
    document: DocumentMut,
    is_private: bool,
}

/// A token has the form of a gateway's.
pub(crate) fn check_token(token: &SecretString) -> Result<()> {
    let secret = token.expose_secret().strip_prefix(TOKEN_PREFIX);
    let is_token = secret.is_some_and(|secret| {
        (1..=TOKEN_LIMIT_BYTES).contains(&secret.len())
            && secret.bytes().all(|byte| byte.is_ascii_graphic())
    });
    if is_token {
        return Ok(());
    }
    let message = "the token is not one of the gateway's: they begin with hf_";
    Err(Failure::invalid(message))
}

/// Where a person's file is.
pub(crate) fn path() -> Result<PathBuf> {
    let named = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let directory = match named.filter(|path| path.is_absolute()) {
        Some(directory) => directory,
        None => match std::env::home_dir() {
            Some(home) if home.is_absolute() => home.join(".config"),
            _ => {
                let failure = Failure::new(Kind::Machine, "there is no home directory");
                return Err(failure.hint("HOME or XDG_CONFIG_HOME names one"));
            }
        },
    };
    Ok(directory.join("holdfast/config.toml"))
}

impl Contexts {
    /// What is in the file; nothing, where there is none.
    pub(crate) fn read(path: PathBuf) -> Result<Self> {
        let (text, is_private) = match read(&path)? {
            Some(found) => found,
            None => (Zeroizing::new(String::new()), true),
        };
        // What the parser says may repeat a line, and the line may have the token.
        let document = text.parse::<DocumentMut>().map_err(|_| {
            let message = format!("{} is not TOML", path.display());
            Failure::invalid(message)
        })?;
        Ok(Self {
            path,
            document,
            is_private,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Which one is meant where none is named.
    pub(crate) fn current(&self) -> Result<Option<String>> {
        match self.document.get("current") {
            None => Ok(None),
            Some(current) => match current.as_str() {
                Some(name) => Ok(Some(name.to_owned())),
                None => Err(self.wrong("current is no name")),
            },
        }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let names = self.tables().into_iter().flat_map(TableLike::iter);
        names.map(|(name, _)| name.to_owned()).collect()
    }

    pub(crate) fn context(&self, name: &str) -> Result<Context> {
        let found = self.tables().and_then(|contexts| contexts.get(name));
        let Some(found) = found else {
            let message = format!("{} has no context {name:?}", self.path.display());
            return Err(Failure::new(Kind::NotFound, message)
                .hint("`holdfast context list` shows what there is"));
        };
        let table = found.as_table_like();
        let table = table.ok_or_else(|| self.wrong(&format!("context {name:?} is no table")))?;
        self.parse(name, table)
    }

    /// Has this context in place of any of its name. The first one is the current one.
    pub(crate) fn set(&mut self, context: &Context) -> Result<()> {
        self.check_private()?;
        let has_current = self.current()?.is_some();
        let root = self.document.as_table_mut();
        let contexts = root.entry("contexts").or_insert_with(headless);
        let Some(contexts) = contexts.as_table_like_mut() else {
            return Err(self.wrong("contexts is no table"));
        };
        let is_there = |known: &Item| known.as_table_like().is_some();
        if !contexts.get(&context.name).is_some_and(is_there) {
            contexts.insert(&context.name, Item::Table(Table::new()));
        }
        let known = contexts.get_mut(&context.name);
        let table = known.and_then(Item::as_table_like_mut);
        context.write_to(table.expect("it was put there"));
        if !has_current {
            self.make_current(&context.name)?;
        }
        Ok(())
    }

    pub(crate) fn make_current(&mut self, name: &str) -> Result<()> {
        self.check_private()?;
        self.document["current"] = value(name);
        Ok(())
    }

    /// Forgets a context; where it was the current one, there is none.
    pub(crate) fn remove(&mut self, name: &str) -> Result<()> {
        self.check_private()?;
        let contexts = self.document.get_mut("contexts");
        let contexts = contexts.and_then(Item::as_table_like_mut);
        if contexts
            .and_then(|contexts| contexts.remove(name))
            .is_none()
        {
            // Says that there is none.
            self.context(name)?;
        }
        if self.current()?.as_deref() == Some(name) {
            self.document.remove("current");
        }
        Ok(())
    }

    /// Has all of it in the file, for its owner alone.
    fn write(&self) -> Result<()> {
        let text = Zeroizing::new(self.document.to_string());
        write(&self.path, &text).map_err(|error| failed(&self.path, &error))
    }

    fn tables(&self) -> Option<&dyn TableLike> {
        self.document.get("contexts")?.as_table_like()
    }

    fn parse(&self, name: &str, table: &dyn TableLike) -> Result<Context> {
        let where_ = format!("context {name:?}");
        let wrong = |what: &str| self.wrong(&format!("{where_} {what}"));
        if let Some((field, _)) = table.iter().find(|(field, _)| !FIELDS.contains(field)) {
            return Err(wrong(&format!("has an unknown field {field:?}")));
        }
        let text = |field: &str| match table.get(field).map(Item::as_str) {
            None => Ok(None),
            Some(Some(text)) => Ok(Some(text)),
            Some(None) => Err(wrong(&format!("has a {field} that is no text"))),
        };
        let gateway = text("gateway")?.ok_or_else(|| wrong("needs a gateway"))?;
        let allow_plain_http = match table.get("allow_plain_http") {
            None => false,
            Some(switch) => switch
                .as_bool()
                .ok_or_else(|| wrong("has an allow_plain_http that is neither true nor false"))?,
        };
        let ca_file = text("ca_file")?.map(PathBuf::from);
        if ca_file.as_ref().is_some_and(|file| !file.is_absolute()) {
            return Err(wrong("has a ca_file that is no absolute path"));
        }
        let token = text("token")?.map(SecretString::from);
        if token.is_some() {
            self.check_private()?;
        }
        Ok(Context {
            name: name.to_owned(),
            gateway: GatewayUrl::parse(gateway)?,
            token,
            ca_file,
            allow_plain_http,
        })
    }

    /// A token that others can read is not used.
    fn check_private(&self) -> Result<()> {
        let mut tables = self.tables().into_iter().flat_map(TableLike::iter);
        let has_token = tables.any(|(_, context)| {
            let context = context.as_table_like();
            context.is_some_and(|context| context.contains_key("token"))
        });
        if self.is_private || !has_token {
            return Ok(());
        }
        let path = self.path.display();
        let message = format!("{path} has a token, and others can read it");
        Err(Failure::invalid(message).hint(format!("chmod 600 {path}")))
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::invalid(format!("{}: {what}", self.path.display()))
    }
}

impl Context {
    fn write_to(&self, table: &mut dyn TableLike) {
        let unknown = table.iter().map(|(field, _)| field.to_owned());
        let unknown = unknown.filter(|field| !FIELDS.contains(&field.as_str()));
        for field in unknown.collect::<Vec<_>>() {
            table.remove(&field);
        }
        let token = self.token.as_ref().map(ExposeSecret::expose_secret);
        let ca_file = self.ca_file.as_ref();
        let ca_file = ca_file.map(|file| file.to_str().expect("whoever names it checks it"));
        let allow_plain_http = self.allow_plain_http.then_some(true);
        put(table, "gateway", Some(self.gateway.to_string().into()));
        put(table, "token", token.map(Into::into));
        put(table, "ca_file", ca_file.map(Into::into));
        put(table, "allow_plain_http", allow_plain_http.map(Into::into));
    }
}

/// Changes the file: of two commands at once, the second one is told to wait.
pub(crate) fn change<T>(
    path: PathBuf,
    change: impl FnOnce(&mut Contexts) -> Result<T>,
) -> Result<T> {
    let _lock = lock(&path)?;
    let mut contexts = Contexts::read(path)?;
    let done = change(&mut contexts)?;
    contexts.write()?;
    Ok(done)
}

/// Sets a field, or takes it away. What stands behind it, such as a comment, stays.
fn put(table: &mut dyn TableLike, field: &str, new: Option<Value>) {
    match (table.get_mut(field).and_then(Item::as_value_mut), new) {
        (Some(old), Some(mut new)) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        (None, Some(new)) => drop(table.insert(field, Item::Value(new))),
        (_, None) => drop(table.remove(field)),
    }
}

/// A table that is there for those in it.
fn headless() -> Item {
    let mut table = Table::new();
    table.set_implicit(true);
    Item::Table(table)
}

fn lock(path: &Path) -> Result<File> {
    let directory = path.parent().expect("a file in a directory");
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    let opened = made.and_then(|()| File::open(directory));
    let opened = opened.map_err(|error| failed(directory, &error))?;
    flock(&opened, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
        let failure = failed(path, &io::Error::from(errno));
        failure.hint("another command may be changing it: try again")
    })?;
    Ok(opened)
}

/// A file's text, and whether it is its owner's alone. What others than us and root can write is
/// not believed.
fn read(path: &Path) -> Result<Option<(Zeroizing<String>, bool)>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| failed(path, &error))?,
    };
    // Of the open file, so that it is the one that is read.
    let status = file.metadata().map_err(|error| failed(path, &error))?;
    let is_ours = [0, geteuid().as_raw()].contains(&status.uid());
    if !is_ours || status.mode() & OTHERS_WRITE != 0 {
        let path = path.display();
        let failure = Failure::invalid(format!("{path} can be written by others"));
        return Err(failure.hint(format!("chmod 600 {path}")));
    }
    let read = bounded_file::read_opened(file, FILE_LIMIT_BYTES).and_then(bounded_file::text);
    let text = read.map_err(|error| failed(path, &error))?;
    let is_private = status.mode() & OTHERS == 0;
    Ok(Some((text, is_private)))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    // Some have a link there, which leads to where they keep such files.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().expect("a file in a directory");
    let new = path.with_extension(format!("toml.{}", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&new, &path))
        .and_then(|()| File::open(directory)?.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    bounded_file::failure(path.display(), error)
}

/// A name that needs no quotes anywhere.
pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    let is_usable = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=NAME_LIMIT_BYTES).contains(&text.len()) && text.bytes().all(is_usable) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "letters, digits, `-`, `_` and `.`, at most {NAME_LIMIT_BYTES}"
    ))
}

#[cfg(test)]
mod tests;
