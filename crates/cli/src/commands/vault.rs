//! `holdfast vault verify|rotate-key|shred|backup|restore`.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use ids::WorkspaceName;
use serde::Serialize;
use vault::{AuditHead, Vault};

use crate::app::{ACTOR, App};
use crate::args::VaultCommand;
use crate::bounded_file;
use crate::failure::{Failure, Kind, Result};
use crate::settings;

/// A name and the end of its line fit.
const ANSWER_MAX_BYTES: u64 = 1024;
/// An end is a number and 64 digits.
const ANCHOR_MAX_BYTES: u64 = 256;

pub(crate) async fn vault(app: &App, command: VaultCommand) -> Result<()> {
    match command {
        VaultCommand::Verify { anchor, update } => verify(app, anchor, update).await,
        VaultCommand::RotateKey { to } => rotate_key(app, to.as_deref()).await,
        VaultCommand::Shred { name, yes } => shred(app, &name, yes).await,
        VaultCommand::Backup { file } => backup(app, &file).await,
        VaultCommand::Restore { file } => restore(app, &file).await,
    }
}

#[derive(Debug, Serialize)]
struct Verified {
    sound: bool,
    workspaces: usize,
    secrets: usize,
    versions_opened: usize,
    /// Where the audit chain ends, if it is whole.
    head: Option<String>,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Finding {
    kind: &'static str,
    message: String,
}

async fn verify(app: &App, anchor: Option<PathBuf>, update: bool) -> Result<()> {
    let anchor = anchor.or_else(|| app.settings.audit_anchor.clone());
    let anchor = anchor.map(|path| Anchor::outside(path, &app.settings.data_dir));
    let anchor = anchor.transpose()?;
    if update && anchor.is_none() {
        let failure = Failure::invalid("--update has no anchor's file to note the end in");
        return Err(failure.hint("name it with --anchor, or as `audit_anchor`"));
    }
    let noted = match &anchor {
        Some(anchor) => anchor.read(update)?,
        None => None,
    };
    let report = app.vault().await?.verify(noted.as_ref()).await?;
    let findings = report.findings.iter();
    let verified = Verified {
        sound: report.is_sound(),
        workspaces: report.workspaces,
        secrets: report.secrets,
        versions_opened: report.versions_opened,
        head: report.head.as_ref().map(ToString::to_string),
        findings: findings
            .map(|finding| Finding {
                kind: finding.kind,
                message: finding.message.clone(),
            })
            .collect(),
    };
    app.output.show(&verified, |verified| {
        let mut text = format!(
            "{} secrets in {} workspaces, {} versions opened",
            verified.secrets, verified.workspaces, verified.versions_opened
        );
        if let Some(head) = &verified.head {
            text.push_str(&format!("\naudit log ends at {head}"));
        }
        for finding in &verified.findings {
            text.push_str(&format!("\n{}: {}", finding.kind, finding.message));
        }
        text
    })?;
    if verified.sound {
        return match (anchor, &report.head) {
            (Some(anchor), Some(head)) if update => anchor.write(head),
            _ => Ok(()),
        };
    }
    let count = verified.findings.len();
    Err(Failure::new(
        Kind::Vault,
        format!("the vault is damaged in {count} places"),
    )
    .hint("put a backup back with `holdfast vault restore`"))
}

/// The file in which an end of the audit chain is noted.
struct Anchor(PathBuf);

impl Anchor {
    /// Whoever puts the data directory back would put an anchor in it back as well.
    fn outside(path: PathBuf, data_dir: &Path) -> Result<Self> {
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if !resolved(directory).starts_with(resolved(data_dir)) {
            return Ok(Self(path));
        }
        let (anchor, data) = (path.display(), data_dir.display());
        Err(
            Failure::invalid(format!("the anchor {anchor} lies inside {data}"))
                .hint("whoever puts an older copy there would put the anchor back as well"),
        )
    }

    /// The end that is noted. A file that is missing is none only where it is to be made.
    fn read(&self, may_be_made: bool) -> Result<Option<AuditHead>> {
        let read = bounded_file::read(&self.0, ANCHOR_MAX_BYTES).and_then(bounded_file::text);
        match read {
            Ok(text) => text.trim_end().parse().map(Some).map_err(|error| {
                Failure::invalid(format!("the anchor {}: {error}", self.0.display()))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound && may_be_made => Ok(None),
            Err(error) => {
                let failure = Failure::invalid(format!("the anchor {}: {error}", self.0.display()));
                Err(failure.hint("--update makes it, when you know that the vault is the latest"))
            }
        }
    }

    /// The old end stays until the new one is whole.
    fn write(&self, head: &AuditHead) -> Result<()> {
        let mut new = self.0.clone().into_os_string();
        new.push(".new");
        let written = std::fs::File::create(&new).and_then(|mut file| {
            writeln!(file, "{head}")?;
            file.sync_all()?;
            std::fs::rename(&new, &self.0)
        });
        let at = |error| Failure::new(Kind::Machine, format!("{}: {error}", self.0.display()));
        written.map_err(at)
    }
}

#[derive(Debug, Serialize)]
struct Rotated {
    old_key_id: String,
    new_key_id: String,
    workspaces: usize,
    /// Where the new key is, if it is not where the old one was.
    root_key: Option<String>,
}

async fn rotate_key(app: &App, to: Option<&Path>) -> Result<()> {
    let named = to.map(settings::key_source).transpose()?;
    let next = named.or_else(|| app.settings.root_key_next.clone());
    app.make_data_dir()?;
    let vault = Vault::open(app.vault_place_with(next.as_ref())?).await?;
    let rotation = vault.rotate_root_key(None, ACTOR).await?;
    let rotated = Rotated {
        root_key: next.map(|source| source.to_string()),
        old_key_id: rotation.old_key_id,
        new_key_id: rotation.new_key_id,
        workspaces: rotation.workspaces,
    };
    app.output.show(&rotated, |rotated| {
        let (new, old) = (&rotated.new_key_id, &rotated.old_key_id);
        let mut text = format!("root key {new} took the place of {old}");
        if let Some(source) = &rotated.root_key {
            text.push_str(&format!(
                "; configure it as `root_key`, now {source}, before the old one is taken away"
            ));
        }
        text
    })
}

#[derive(Debug, Serialize)]
struct Shredded {
    workspace: String,
    secrets: usize,
    grants_revoked: u64,
}

async fn shred(app: &App, name: &str, yes: bool) -> Result<()> {
    let name = WorkspaceName::parse(name).map_err(Failure::invalid)?;
    let opened = app.open().await?;
    let known = opened.broker.known_workspace(&name).await?;
    let workspace = known.ok_or_else(|| {
        Failure::new(Kind::NotFound, format!("there is no workspace {name}"))
            .hint("a workspace is named as with --workspace")
    })?;
    if !yes {
        confirm(app, &name).await?;
    }
    let report = opened.broker.shred(workspace, &name, ACTOR).await?;
    let shredded = Shredded {
        workspace: name.to_string(),
        secrets: report.secrets,
        grants_revoked: report.grants_revoked,
    };
    app.output.show(&shredded, |shredded| {
        let Shredded {
            workspace, secrets, ..
        } = shredded;
        format!("shredded workspace {workspace}: {secrets} secrets; backups still have them")
    })
}

/// Asks for the name again, which no slip of a finger types.
async fn confirm(app: &App, name: &WorkspaceName) -> Result<()> {
    app.output.note(&format!(
        "all secrets of workspace {name} will be gone; type its name again:"
    ));
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        let stdin = std::io::stdin().lock().take(ANSWER_MAX_BYTES);
        BufReader::new(stdin).read_line(&mut line).map(|_| line)
    });
    let line = read.await.map_err(std::io::Error::other).flatten();
    let line = line.map_err(|error| Failure::invalid(format!("standard input: {error}")))?;
    if line.trim() == name.as_str() {
        return Ok(());
    }
    Err(Failure::invalid("that is not its name; nothing was done")
        .hint("--yes does it without asking"))
}

#[derive(Debug, Serialize)]
struct BackedUp {
    file: String,
    bytes: u64,
    root_key_id: String,
}

async fn backup(app: &App, file: &Path) -> Result<()> {
    let report = app.vault().await?.backup(file, ACTOR).await?;
    let done = BackedUp {
        file: report.path.display().to_string(),
        bytes: report.bytes,
        root_key_id: report.root_key_id,
    };
    app.output.show(&done, |done| {
        format!(
            "wrote {}; it needs root key {}, which is not in it: keep {} elsewhere",
            done.file, done.root_key_id, app.settings.root_key
        )
    })
}

async fn restore(app: &App, file: &Path) -> Result<()> {
    Vault::restore(file, app.vault_place()?, ACTOR).await?;
    app.output
        .note(&format!("restored the vault from {}", file.display()));
    app.note_unread_files();
    Ok(())
}
