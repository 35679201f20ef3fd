//! `holdfast secret set|list|rm`: named values of a workspace, sealed beside the credentials.
//!
//! Values are write-only here: they come in by standard input and are never shown.

use credential::SecretName;
use serde::Serialize;
use vault::NewSecret;

use crate::app::{ACTOR, App};
use crate::args::SecretCommand;
use crate::failure::{Failure, Result};
use crate::output::{show_time, table};
use crate::secret_input;

const KIND: &str = "secret";

pub(crate) async fn secret(app: &App, command: SecretCommand) -> Result<()> {
    match command {
        SecretCommand::Set { name } => set(app, &name).await,
        SecretCommand::List => list(app).await,
        SecretCommand::Rm { name } => remove(app, &name).await,
    }
}

/// Registry credentials have commands of their own, which check before they seal.
fn parse_name(text: &str) -> Result<SecretName> {
    let name = SecretName::parse(text)
        .map_err(|error| Failure::invalid(format!("secret name {text:?}: {error}")))?;
    if name.is_of_registry() {
        return Err(Failure::invalid(format!("{text} is a registry credential"))
            .hint("use `holdfast login` and `holdfast logout`"));
    }
    Ok(name)
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    version: u32,
    created_at: Option<String>,
}

async fn set(app: &App, name: &str) -> Result<()> {
    let name = parse_name(name)?;
    let value = secret_input::from_stdin("the value")?;
    let opened = app.open().await?;
    let secret = NewSecret {
        name: &name,
        kind: KIND,
        scope: "",
        plaintext: &value,
    };
    let sealed = opened
        .broker
        .vault()
        .put(opened.workspace, secret, ACTOR)
        .await?;
    let name = name.as_str().to_owned();
    let row = Row {
        name,
        version: sealed.version,
        created_at: None,
    };
    app.output.show(&row, |row| {
        format!("sealed {} (version {})", row.name, row.version)
    })
}

async fn list(app: &App) -> Result<()> {
    let opened = app.open().await?;
    let rows = opened.broker.vault().list(opened.workspace).await?;
    let rows: Vec<Row> = rows
        .into_iter()
        .filter(|row| row.kind == KIND)
        .map(|row| Row {
            name: row.name,
            version: row.version,
            created_at: Some(show_time(row.created_at)),
        })
        .collect();
    app.output.show(&rows, |rows| {
        let cells = rows.iter().map(|row| {
            let created = row.created_at.clone().unwrap_or_default();
            vec![row.name.clone(), row.version.to_string(), created]
        });
        table(&["NAME", "VERSION", "SEALED"], cells)
    })
}

async fn remove(app: &App, name: &str) -> Result<()> {
    let name = parse_name(name)?;
    let opened = app.open().await?;
    let removed = opened
        .broker
        .vault()
        .remove(opened.workspace, &name, ACTOR)
        .await?;
    let row = Row {
        name: name.as_str().to_owned(),
        version: removed.version,
        created_at: None,
    };
    app.output.show(&row, |row| format!("removed {}", row.name))
}
