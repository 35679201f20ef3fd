//! `holdfast secret set|list|rm`: named values of a workspace, sealed beside the credentials.
//!
//! Values are write-only here: they come in by standard input and are never shown.

use broker::NamedSecret;
use serde::Serialize;

use crate::app::{ACTOR, App};
use crate::args::SecretCommand;
use crate::failure::Result;
use crate::output::{show_time, table};
use crate::secret_input;

pub(crate) async fn secret(app: &App, command: SecretCommand) -> Result<()> {
    match command {
        SecretCommand::Set { name } => set(app, &name).await,
        SecretCommand::List => list(app).await,
        SecretCommand::Rm { name } => remove(app, &name).await,
    }
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    version: u32,
    created_at: Option<String>,
}

async fn set(app: &App, name: &str) -> Result<()> {
    // Before somebody types a value for nothing.
    NamedSecret::parse_name(name)?;
    let value = secret_input::from_stdin("the value")?;
    let opened = app.open().await?;
    let sealed = opened
        .broker
        .set_named_secret(opened.workspace, name, &value, ACTOR)
        .await?;
    let row = Row {
        name: sealed.name.as_str().to_owned(),
        version: sealed.version,
        created_at: None,
    };
    app.output.show(&row, |row| {
        format!("sealed {} (version {})", row.name, row.version)
    })
}

async fn list(app: &App) -> Result<()> {
    let opened = app.open().await?;
    let secrets = opened.broker.named_secrets(opened.workspace).await?;
    let rows: Vec<Row> = secrets
        .into_iter()
        .map(|secret| Row {
            name: secret.name.as_str().to_owned(),
            version: secret.version,
            created_at: Some(show_time(secret.sealed_at)),
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
    let opened = app.open().await?;
    let version = opened
        .broker
        .remove_named_secret(opened.workspace, name, ACTOR)
        .await?;
    let row = Row {
        name: name.to_owned(),
        version,
        created_at: None,
    };
    app.output.show(&row, |row| format!("removed {}", row.name))
}
