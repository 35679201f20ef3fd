//! `holdfast login --from-docker`: what docker, podman or a Kubernetes Secret has, taken over.
//!
//! Each login is checked with its registry and sealed like one that was typed. Without a scope and
//! without `--all` nothing is asked of a registry and nothing is written.

use broker::{LoginReport, LoginRequest, RegistrySettings};
use credential::docker_config::{
    DockerLogin, DockerLoginError, Found, Source, keep_first_of_each_scope,
};
use credential::docker_helper::HelperName;
use credential::{Detected, RegistryScope, most_specific};
use serde::Serialize;

use super::docker_files::{self, DockerFile};
use super::docker_helper;
use crate::app::{App, Opened, parse_scope};
use crate::args::LoginArgs;
use crate::failure::{Failure, Kind, Result};
use crate::output::{or_dash, show_time, table};

/// Who the audit log says it was.
const ACTOR: &str = "login from docker";

/// From what is mended by waiting to what is not: the exit code is that of the last.
const SEVERITY: [Kind; 10] = [
    Kind::RateLimited,
    Kind::Unreachable,
    Kind::NotFound,
    Kind::Unsupported,
    Kind::Invalid,
    Kind::Denied,
    Kind::Corrupt,
    Kind::Machine,
    Kind::Vault,
    Kind::Internal,
];

/// A login and where it is.
struct Listed {
    from: String,
    login: DockerLogin,
}

/// What became of a login.
#[derive(Debug, Serialize)]
struct Outcome {
    scope: Option<String>,
    /// The registry as the file names it.
    key: String,
    from: String,
    kind: Option<&'static str>,
    outcome: &'static str,
    version: Option<u32>,
    not_after: Option<String>,
    message: Option<String>,
    hints: Vec<String>,
    #[serde(skip)]
    failed: Option<Kind>,
}

pub(super) async fn login(app: &App, args: &LoginArgs) -> Result<()> {
    let scopes = args.scopes.iter().map(|scope| parse_scope(scope));
    let scopes = scopes.collect::<Result<Vec<_>>>()?;
    let settings = super::settings(args)?;
    let files = docker_files::read(args.docker_config.as_deref())?;
    let listed = listed(app, files).await;
    if args.all {
        return import_all(app, listed).await;
    }
    if !scopes.is_empty() {
        return import(app, &scopes, &settings, &listed).await;
    }
    let outcomes: Vec<Outcome> = listed.iter().map(Outcome::listed).collect();
    show(app, &outcomes)
}

/// All logins of all files, and of the helpers that only list them themselves.
async fn listed(app: &App, files: Vec<DockerFile>) -> Vec<Listed> {
    let mut listed = Vec::new();
    for DockerFile { name, config } in files {
        listed.extend(config.logins.into_iter().map(|login| of_file(&name, login)));
        if let Some(store) = config.store {
            match docker_helper::list(&store).await {
                Ok(servers) => listed.extend(of_helper(&store, &servers)),
                Err(failure) => app.output.note(&failure.message),
            }
        }
    }
    let (from, mut logins): (Vec<String>, Vec<DockerLogin>) = listed
        .into_iter()
        .map(|listed| (listed.from, listed.login))
        .unzip();
    keep_first_of_each_scope(&mut logins);
    let again = from.into_iter().zip(logins);
    again.map(|(from, login)| Listed { from, login }).collect()
}

fn of_file(file: &str, login: DockerLogin) -> Listed {
    let from = match &login.found {
        Ok(Found {
            source: Source::Helper { name, .. },
            ..
        }) => name.program(),
        _ => file.to_owned(),
    };
    Listed { from, login }
}

fn of_helper(store: &HelperName, servers: &[String]) -> impl Iterator<Item = Listed> {
    servers.iter().map(move |server| Listed {
        from: store.program(),
        login: DockerLogin::in_helper(store, server),
    })
}

/// What is superseded or of Docker Desktop's own is no loss; what else cannot be used is.
async fn import_all(app: &App, listed: Vec<Listed>) -> Result<()> {
    let opened = app.open().await?;
    let settings = RegistrySettings::default();
    let mut outcomes = Vec::new();
    for Listed { from, login } in listed {
        let DockerLogin { key, found } = login;
        let origin = Origin { key, from };
        outcomes.push(match found {
            Ok(found) => take_over(&opened, &found.scope, &settings, &found.source, origin).await,
            Err(error) => Outcome::unusable(origin, &error),
        });
    }
    show(app, &outcomes)
}

async fn import(
    app: &App,
    scopes: &[RegistryScope],
    settings: &RegistrySettings,
    listed: &[Listed],
) -> Result<()> {
    let opened = app.open().await?;
    let mut outcomes = Vec::new();
    for scope in scopes {
        outcomes.push(match nearest(scope, listed) {
            Some((origin, found)) => {
                take_over(&opened, scope, settings, &found.source, origin).await
            }
            None => Outcome::missing(scope),
        });
    }
    show(app, &outcomes)
}

/// The login that docker would use for this scope.
fn nearest<'a>(scope: &RegistryScope, listed: &'a [Listed]) -> Option<(Origin, &'a Found)> {
    let usable = |listed: &'a Listed| Some((listed, listed.login.found.as_ref().ok()?));
    let found: Vec<(&Listed, &Found)> = listed.iter().filter_map(usable).collect();
    let scopes = found.iter().map(|(_, found)| &found.scope);
    let path = scope.path().unwrap_or_default();
    let nearest = most_specific(scopes, scope.registry(), path)?;
    let (listed, found) = found.iter().find(|(_, found)| found.scope == *nearest)?;
    let origin = Origin {
        key: listed.login.key.clone(),
        from: listed.from.clone(),
    };
    Some((origin, found))
}

/// Checks one login with its registry and seals it.
async fn take_over(
    opened: &Opened,
    scope: &RegistryScope,
    settings: &RegistrySettings,
    source: &Source,
    origin: Origin,
) -> Outcome {
    let sealed = async {
        let detected = match source {
            Source::File(detected) => detected.clone(),
            Source::Helper { name, server } => docker_helper::get(name, server, scope).await?,
        };
        let request = LoginRequest {
            scope: scope.clone(),
            credential: detected.credential.clone(),
            settings: settings.clone(),
        };
        let login = opened.broker.login_with(opened.workspace, request, ACTOR);
        Ok((login.await?, detected))
    };
    match sealed.await {
        Ok((report, detected)) => Outcome::sealed(origin, report, &detected),
        Err(failure) => Outcome::failed(origin, scope, failure),
    }
}

/// Where a login was.
struct Origin {
    key: String,
    from: String,
}

impl Outcome {
    fn of(origin: Origin, outcome: &'static str) -> Self {
        Self {
            scope: None,
            key: origin.key,
            from: origin.from,
            kind: None,
            outcome,
            version: None,
            not_after: None,
            message: None,
            hints: Vec::new(),
            failed: None,
        }
    }

    /// Before anything is done.
    fn listed(listed: &Listed) -> Self {
        let origin = Origin {
            key: listed.login.key.clone(),
            from: listed.from.clone(),
        };
        let found = match &listed.login.found {
            Ok(found) => found,
            Err(error) => {
                return Self {
                    failed: None,
                    ..Self::unusable(origin, error)
                };
            }
        };
        let mut outcome = Self::of(origin, "found");
        outcome.scope = Some(found.scope.to_string());
        if let Source::File(detected) = &found.source {
            outcome.kind = Some(detected.kind.as_str());
            outcome.not_after = detected.not_after.map(show_time);
            outcome.hints = hints(detected);
        }
        outcome
    }

    fn sealed(origin: Origin, report: LoginReport, detected: &Detected) -> Self {
        let outcome = if report.is_new { "sealed" } else { "unchanged" };
        let mut hints = hints(detected);
        hints.extend(report.hints);
        Self {
            scope: Some(report.scope.to_string()),
            kind: Some(report.kind.as_str()),
            version: Some(report.version),
            not_after: report.not_after.map(show_time),
            hints,
            ..Self::of(origin, outcome)
        }
    }

    fn failed(origin: Origin, scope: &RegistryScope, failure: Failure) -> Self {
        Self {
            scope: Some(scope.to_string()),
            message: Some(failure.message),
            hints: failure.hint.into_iter().collect(),
            failed: Some(failure.kind),
            ..Self::of(origin, "failed")
        }
    }

    fn unusable(origin: Origin, error: &DockerLoginError) -> Self {
        let failed = match error {
            DockerLoginError::DesktopToken | DockerLoginError::Superseded { .. } => None,
            DockerLoginError::Empty | DockerLoginError::HelperOfSecret => Some(Kind::NotFound),
            DockerLoginError::Pattern => Some(Kind::Unsupported),
            _ => Some(Kind::Invalid),
        };
        Self {
            message: Some(error.to_string()),
            failed,
            ..Self::of(origin, "skipped")
        }
    }

    fn missing(scope: &RegistryScope) -> Self {
        let origin = Origin {
            key: "-".to_owned(),
            from: "-".to_owned(),
        };
        let message = format!("no login is for {scope}");
        Self::failed(origin, scope, Failure::new(Kind::NotFound, message))
    }

    fn cells(&self) -> Vec<String> {
        let version = self.version.map(|version| format!(" (version {version})"));
        let outcome = match &self.message {
            Some(message) => format!("{}: {message}", self.outcome),
            None => format!("{}{}", self.outcome, version.unwrap_or_default()),
        };
        vec![
            self.scope.clone().unwrap_or_else(|| self.key.clone()),
            or_dash(self.kind),
            self.from.clone(),
            outcome,
        ]
    }
}

fn hints(detected: &Detected) -> Vec<String> {
    detected.hints.iter().map(ToString::to_string).collect()
}

/// One table, and the exit code of the worst.
fn show(app: &App, outcomes: &[Outcome]) -> Result<()> {
    app.output.show(&outcomes, |outcomes| render(outcomes))?;
    let failed: Vec<Kind> = outcomes
        .iter()
        .filter_map(|outcome| outcome.failed)
        .collect();
    let rank = |kind: &Kind| SEVERITY.iter().position(|other| other == kind);
    let Some(worst) = failed.iter().copied().max_by_key(|kind| rank(kind)) else {
        return Ok(());
    };
    let message = format!(
        "{} of {} logins were not taken over",
        failed.len(),
        outcomes.len()
    );
    Err(Failure::new(worst, message))
}

fn render(outcomes: &[Outcome]) -> String {
    if outcomes.is_empty() {
        return "no logins in the files of docker and podman".to_owned();
    }
    let cells = outcomes.iter().map(Outcome::cells);
    let mut text = table(&["SCOPE", "KIND", "FROM", "OUTCOME"], cells);
    for outcome in outcomes {
        let scope = outcome.scope.as_deref().unwrap_or(&outcome.key);
        for hint in &outcome.hints {
            text.push_str(&format!("\nhint: {scope}: {hint}"));
        }
    }
    if outcomes.iter().any(|outcome| outcome.outcome == "found") {
        text.push_str("\ntake them over by scope, or --all of them");
    }
    text
}
