//! `holdfast vault verify|rotate-key|backup|restore`.

use std::path::Path;

use serde::Serialize;
use vault::Vault;

use crate::app::{ACTOR, App};
use crate::args::VaultCommand;
use crate::failure::{Failure, Kind, Result};
use crate::settings;

pub(crate) async fn vault(app: &App, command: VaultCommand) -> Result<()> {
    match command {
        VaultCommand::Verify => verify(app).await,
        VaultCommand::RotateKey { to } => rotate_key(app, to.as_deref()).await,
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
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Finding {
    kind: &'static str,
    message: String,
}

async fn verify(app: &App) -> Result<()> {
    let report = app.vault().await?.verify(None).await?;
    let findings = report.findings.iter();
    let verified = Verified {
        sound: report.is_sound(),
        workspaces: report.workspaces,
        secrets: report.secrets,
        versions_opened: report.versions_opened,
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
        for finding in &verified.findings {
            text.push_str(&format!("\n{}: {}", finding.kind, finding.message));
        }
        text
    })?;
    if verified.sound {
        return Ok(());
    }
    let count = verified.findings.len();
    Err(Failure::new(
        Kind::Vault,
        format!("the vault is damaged in {count} places"),
    )
    .hint("put a backup back with `holdfast vault restore`"))
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
    Ok(())
}
