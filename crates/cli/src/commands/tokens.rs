//! `holdfast tokens create|list|enable|disable|rm`: who may call this installation.
//!
//! For whoever runs it: no token is needed to make one here.

use control_store::{ApiToken, ControlStore, TokenScope};
use credential::ExposeSecret;
use gateway::TokenRequest;
use ids::{TokenId, WorkspaceId};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::app::App;
use crate::args::TokensCommand;
use crate::failure::{Failure, Kind, Result};
use crate::output::{show_time, table};

const HOURS_OF_DAY: i64 = 24;

pub(crate) async fn tokens(app: &App, command: TokensCommand) -> Result<()> {
    match command {
        TokensCommand::Create { name, scope, days } => create(app, name, &scope, days).await,
        TokensCommand::List => list(app).await,
        TokensCommand::Enable { id } => switch(app, id, true).await,
        TokensCommand::Disable { id } => switch(app, id, false).await,
        TokensCommand::Rm { id } => remove(app, id).await,
    }
}

#[derive(Debug, Serialize)]
struct Row {
    id: String,
    name: String,
    scopes: Vec<&'static str>,
    enabled: bool,
    created_at: String,
    expires_at: Option<String>,
    used_at: Option<String>,
}

impl From<ApiToken> for Row {
    fn from(token: ApiToken) -> Self {
        Self {
            id: token.id.to_string(),
            name: token.name,
            scopes: token.scopes.iter().map(|scope| scope.name()).collect(),
            enabled: token.is_enabled,
            created_at: show_time(token.created_at),
            expires_at: token.expires_at.map(show_time),
            used_at: token.used_at.map(show_time),
        }
    }
}

#[derive(Serialize)]
struct Created {
    #[serde(flatten)]
    row: Row,
    token: String,
}

async fn create(app: &App, name: String, scopes: &[String], days: Option<u16>) -> Result<()> {
    let request = TokenRequest {
        name,
        scopes: parse_scopes(scopes)?,
        expires_at: days.map(in_days),
    };
    let opened = app.open().await?;
    let gateway = app.gateway(&opened)?;
    let made = gateway.make_token(opened.workspace, request).await?;
    let created = Created {
        row: made.token.into(),
        token: made.text.expose_secret().to_owned(),
    };
    app.output
        .note("the token is shown once; send it as `Authorization: Bearer …`");
    app.output.show(&created, |created| created.token.clone())
}

fn parse_scopes(names: &[String]) -> Result<Vec<TokenScope>> {
    if names.is_empty() {
        return Ok(TokenScope::OF_A_WORKSPACE.to_vec());
    }
    let scopes = names.iter().map(|name| name.parse());
    scopes.collect::<Result<_, _>>().map_err(Failure::invalid)
}

fn in_days(days: u16) -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(i64::from(days) * HOURS_OF_DAY)
}

async fn list(app: &App) -> Result<()> {
    let opened = app.open().await?;
    let tokens = opened.broker.store().tokens(opened.workspace).await?;
    let rows: Vec<Row> = tokens.into_iter().map(Row::from).collect();
    app.output.show(&rows, |rows| {
        let cells = rows.iter().map(|row| {
            vec![
                row.id.clone(),
                row.name.clone(),
                row.scopes.join(","),
                if row.enabled { "enabled" } else { "disabled" }.to_owned(),
                row.expires_at.clone().unwrap_or_else(|| "never".to_owned()),
                row.used_at.clone().unwrap_or_else(|| "never".to_owned()),
            ]
        });
        table(&["ID", "NAME", "SCOPES", "STATE", "ENDS", "USED"], cells)
    })
}

async fn switch(app: &App, id: TokenId, is_enabled: bool) -> Result<()> {
    let opened = app.open().await?;
    let (store, workspace) = (opened.broker.store(), opened.workspace);
    let row = row(&**store, workspace, id).await?;
    store.set_token_enabled(workspace, id, is_enabled).await?;
    let row = Row {
        enabled: is_enabled,
        ..row
    };
    let done = if is_enabled { "enabled" } else { "disabled" };
    app.output.show(&row, |row| format!("{done} {}", row.name))
}

async fn remove(app: &App, id: TokenId) -> Result<()> {
    let opened = app.open().await?;
    let (store, workspace) = (opened.broker.store(), opened.workspace);
    let row = row(&**store, workspace, id).await?;
    store.remove_token(workspace, id).await?;
    app.output.show(&row, |row| format!("removed {}", row.name))
}

async fn row(store: &dyn ControlStore, workspace: WorkspaceId, id: TokenId) -> Result<Row> {
    let tokens = store.tokens(workspace).await?;
    let found = tokens.into_iter().find(|token| token.id == id);
    let missing = || {
        Failure::new(Kind::NotFound, format!("no token {id} in this workspace"))
            .hint("`holdfast tokens list` shows what there is")
    };
    Ok(found.ok_or_else(missing)?.into())
}
