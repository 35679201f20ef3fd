//! `holdfast credentials list|check|explain|history|rotate|detect|share|unshare`.

mod rotate;
mod share;

use std::collections::BTreeMap;

use broker::{CheckReport, CredentialRow, Explanation, VersionRow};
use credential::{ExposeSecret, RegistryScope, detect, wipe};
use reference::{Reference, Registry};
use serde::Serialize;

use crate::app::{App, parse_scope};
use crate::args::CredentialsCommand;
use crate::commands::reference::parse;
use crate::failure::{Failure, Kind, Result};
use crate::output::{or_dash, show_time, table};
use crate::secret_input;

pub(crate) async fn credentials(app: &App, command: CredentialsCommand) -> Result<()> {
    match command {
        CredentialsCommand::List => list(app).await,
        CredentialsCommand::Check { scope } => check(app, scope.as_deref()).await,
        CredentialsCommand::Explain { image } => explain(app, &image).await,
        CredentialsCommand::History { scope } => history(app, &scope).await,
        CredentialsCommand::Rotate {
            scope,
            username,
            undo,
            dry_run,
            force,
            ..
        } => {
            let source = if undo {
                rotate::Source::Before
            } else {
                rotate::Source::Input { username }
            };
            let then = match (dry_run, force) {
                (true, _) => rotate::Then::Nothing,
                (_, true) => rotate::Then::TakeAnyway,
                _ => rotate::Then::TakeWhatWorks,
            };
            rotate::rotate(app, &scope, source, then).await
        }
        CredentialsCommand::Share { scope, with } => share::share(app, &scope, with).await,
        CredentialsCommand::Unshare { scope, with } => share::unshare(app, &scope, with).await,
        CredentialsCommand::Detect { registry } => detect_kind(app, &registry),
    }
}

#[derive(Debug, Serialize)]
struct Row {
    scope: String,
    kind: String,
    secret_name: String,
    version: u32,
    state: &'static str,
    checked_at: Option<String>,
    not_after: Option<String>,
    /// Programs of others that it is handed out to.
    shared_with: Vec<&'static str>,
    /// Whether they may be given it as it is, where the registry takes nothing less.
    workers_may_hold_password: bool,
}

impl From<CredentialRow> for Row {
    fn from(row: CredentialRow) -> Self {
        Self {
            scope: row.scope.to_string(),
            kind: row.kind,
            secret_name: row.secret_name,
            version: row.version,
            state: row.state,
            checked_at: row.checked_at.map(show_time),
            not_after: row.not_after.map(show_time),
            shared_with: Vec::new(),
            workers_may_hold_password: false,
        }
    }
}

async fn list(app: &App) -> Result<()> {
    let opened = app.open().await?;
    let rows = opened.broker.list(opened.workspace).await?;
    let mut rows: Vec<Row> = rows.into_iter().map(Row::from).collect();
    for (shared, recipient) in opened.broker.shared(opened.workspace).await? {
        let scope = shared.scope.to_string();
        let own = rows.iter_mut().find(|row| row.scope == scope);
        own.into_iter()
            .for_each(|row| row.shared_with.push(recipient.as_str()));
    }
    let settings = opened.broker.store().settings(opened.workspace).await?;
    let lent = settings
        .iter()
        .filter(|(_, settings)| settings.workers_may_hold_password);
    for (scope, _) in lent {
        let own = rows.iter_mut().find(|row| row.scope == *scope);
        own.into_iter()
            .for_each(|row| row.workers_may_hold_password = true);
    }
    app.output.show(&rows, |rows| {
        if rows.is_empty() {
            return "no credentials: `holdfast login REGISTRY` adds one".to_owned();
        }
        let cells = rows.iter().map(|row| {
            vec![
                row.scope.clone(),
                row.kind.clone(),
                row.version.to_string(),
                row.state.to_owned(),
                row.checked_at.clone().unwrap_or_else(|| "never".to_owned()),
                or_dash(row.not_after.as_deref()),
                or_dash((!row.shared_with.is_empty()).then_some(&row.shared_with.join(", "))),
                or_dash(row.workers_may_hold_password.then_some("may hold it")),
            ]
        });
        let headings = [
            "SCOPE", "KIND", "VERSION", "STATE", "CHECKED", "ENDS", "SHARED", "WORKERS",
        ];
        table(&headings, cells)
    })
}

#[derive(Debug, Serialize)]
struct Checked {
    scope: String,
    version: u32,
    state: &'static str,
    proven: Option<&'static str>,
    message: Option<String>,
    hint: Option<String>,
    not_after: Option<String>,
}

impl From<CheckReport> for Checked {
    fn from(report: CheckReport) -> Self {
        Self {
            scope: report.scope.to_string(),
            version: report.version,
            state: report.state,
            proven: report.proven.map(broker::Proven::as_str),
            message: report.message,
            hint: report.hint,
            not_after: report.not_after.map(show_time),
        }
    }
}

/// Fails when any credential does, so that a script needs only the exit code.
async fn check(app: &App, scope: Option<&str>) -> Result<()> {
    let scope = scope.map(parse_scope).transpose()?;
    let opened = app.open().await?;
    let reports = opened
        .broker
        .check(opened.workspace, scope.as_ref())
        .await?;
    let checked: Vec<Checked> = reports.into_iter().map(Checked::from).collect();
    app.output.show(&checked, |checked| {
        let cells = checked.iter().map(|row| {
            let message = row.message.clone().unwrap_or_default();
            vec![
                row.scope.clone(),
                row.version.to_string(),
                row.state.to_owned(),
                message,
            ]
        });
        table(&["SCOPE", "VERSION", "STATE", "MESSAGE"], cells)
    })?;
    let bad: Vec<&Checked> = checked.iter().filter(|row| row.state != "ok").collect();
    let Some(first) = bad.first() else {
        return Ok(());
    };
    let message = format!("{} of {} credentials do not work", bad.len(), checked.len());
    Err(Failure::new(Kind::Denied, message).hint_if(first.hint.clone()))
}

#[derive(Debug, Serialize)]
struct Explained {
    image: String,
    chosen: Option<String>,
    version: Option<u32>,
    why: String,
    lost: Vec<Lost>,
    token_service: Option<String>,
    rung: Option<String>,
    not_after: Option<String>,
    state: Option<&'static str>,
    checked_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct Lost {
    scope: String,
    why: String,
}

impl From<Explanation> for Explained {
    fn from(explanation: Explanation) -> Self {
        let Explanation {
            image,
            chosen,
            why,
            lost,
            token_service,
            rung,
            ..
        } = explanation;
        let lost = lost.into_iter();
        Self {
            image,
            chosen: chosen.as_ref().map(|chosen| chosen.scope.to_string()),
            version: chosen.as_ref().map(|chosen| chosen.version),
            why,
            lost: lost
                .map(|lost| Lost {
                    scope: lost.scope.to_string(),
                    why: lost.why,
                })
                .collect(),
            token_service,
            rung,
            not_after: chosen
                .as_ref()
                .and_then(|chosen| chosen.not_after)
                .map(show_time),
            state: chosen.as_ref().map(|chosen| chosen.state),
            checked_at: chosen.and_then(|chosen| chosen.checked_at).map(show_time),
        }
    }
}

async fn explain(app: &App, image: &str) -> Result<()> {
    let image = parse(image)?;
    let opened = app.open().await?;
    let explanation = opened.broker.explain(opened.workspace, &image).await?;
    app.output.show(&Explained::from(explanation), |explained| {
        let absent = || "-".to_owned();
        let version = explained
            .version
            .map_or_else(absent, |version| version.to_string());
        let mut rows = vec![
            vec!["image".to_owned(), explained.image.clone()],
            vec![
                "chosen".to_owned(),
                explained.chosen.clone().unwrap_or_else(|| "none".into()),
            ],
            vec!["why".to_owned(), explained.why.clone()],
            vec!["version".to_owned(), version],
            vec![
                "token service".to_owned(),
                explained.token_service.clone().unwrap_or_else(absent),
            ],
            vec![
                "a reader holds".to_owned(),
                explained.rung.clone().unwrap_or_else(absent),
            ],
            vec![
                "ends".to_owned(),
                explained.not_after.clone().unwrap_or_else(absent),
            ],
            vec![
                "state".to_owned(),
                explained.state.unwrap_or("-").to_owned(),
            ],
            vec![
                "checked".to_owned(),
                explained.checked_at.clone().unwrap_or_else(absent),
            ],
        ];
        let lost = explained.lost.iter();
        rows.extend(lost.map(|lost| vec![format!("not {}", lost.scope), lost.why.clone()]));
        table(&["", ""], rows).trim_start_matches('\n').to_owned()
    })
}

#[derive(Debug, Serialize)]
struct Version {
    version: u32,
    kind: String,
    current: bool,
    created_at: String,
    actor: String,
    leases: u32,
    retired_at: Option<String>,
    removed_at: Option<String>,
}

impl From<VersionRow> for Version {
    fn from(row: VersionRow) -> Self {
        Self {
            version: row.version,
            kind: row.kind,
            current: row.current,
            created_at: show_time(row.created_at),
            actor: row.actor,
            leases: row.leases,
            retired_at: row.retired_at.map(show_time),
            removed_at: row.removed_at.map(show_time),
        }
    }
}

async fn history(app: &App, scope: &str) -> Result<()> {
    let scope = parse_scope(scope)?;
    let opened = app.open().await?;
    let rows = opened.broker.history(opened.workspace, &scope).await?;
    let versions: Vec<Version> = rows.into_iter().map(Version::from).collect();
    app.output.show(&versions, |versions| {
        let cells = versions.iter().map(|row| {
            let state = match (row.current, &row.removed_at, &row.retired_at) {
                (true, ..) => "current".to_owned(),
                (_, Some(at), _) => format!("removed {at}"),
                (_, _, Some(at)) => format!("retired {at}"),
                _ => "superseded".to_owned(),
            };
            let (created, leases) = (row.created_at.clone(), row.leases.to_string());
            vec![
                row.version.to_string(),
                row.kind.clone(),
                created,
                state,
                leases,
            ]
        });
        table(&["VERSION", "KIND", "SEALED", "STATE", "LEASES"], cells)
    })
}

#[derive(Debug, Serialize)]
struct Detected {
    kind: &'static str,
    registry: String,
    scope: String,
    secret_name: String,
    used_keys: Vec<&'static str>,
    hints: Vec<String>,
}

fn detect_kind(app: &App, registry: &str) -> Result<()> {
    let scope = scope_of(registry)?;
    let input = secret_input::from_stdin("the JSON object")?;
    let keys: BTreeMap<String, serde_json::Value> = serde_json::from_str(input.expose_secret())
        // The parser's message may quote the input.
        .map_err(|_| Failure::invalid("standard input is not a JSON object of keys"))?;
    let found = detect(scope.registry(), &keys);
    wipe(keys);
    let found = found?;
    let mut used_keys = found.used_keys;
    used_keys.sort_unstable();
    let detected = Detected {
        kind: found.kind.as_str(),
        registry: scope.registry().to_string(),
        secret_name: scope.secret_name().as_str().to_owned(),
        scope: scope.to_string(),
        used_keys,
        hints: found.hints.iter().map(ToString::to_string).collect(),
    };
    app.output.show(&detected, |detected| {
        let mut text = format!(
            "{} credential for {}, kept as {}",
            detected.kind, detected.scope, detected.secret_name
        );
        for hint in &detected.hints {
            text.push_str(&format!("\nhint: {hint}"));
        }
        text
    })
}

/// A registry is its own scope; an image's is its repository.
fn scope_of(text: &str) -> Result<RegistryScope> {
    if let Ok(registry) = Registry::parse(text) {
        return Ok(RegistryScope::of_registry(registry));
    }
    match Reference::parse(text) {
        Ok(image) => Ok(RegistryScope::of_image(&image)),
        Err(error) => {
            let hint = error.hint();
            Err(Failure::invalid(format!("registry {text:?}: {error}")).hint_if(hint))
        }
    }
}
