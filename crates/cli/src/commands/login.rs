//! `holdfast login` and `logout`.

mod docker_files;
mod docker_helper;
mod from_docker;

use std::collections::BTreeMap;

use broker::{LoginReport, LoginRequest, RegistrySettings};
use credential::{
    Detected, Keyless, RegistryScope, from_keyless, from_password, from_service_account, from_token,
};
use serde::Serialize;

use crate::app::{App, parse_scope};
use crate::args::{KeylessArgs, LoginArgs, LogoutArgs};
use crate::authority::read_pem;
use crate::failure::{Failure, Result};
use crate::output::show_time;
use crate::secret_input;

#[derive(Debug, Serialize)]
pub(crate) struct LoggedIn {
    scope: String,
    kind: &'static str,
    secret_name: String,
    version: u32,
    /// Whether no secret is stored.
    keyless: bool,
    proven: &'static str,
    token_service: Option<String>,
    not_after: Option<String>,
    hints: Vec<String>,
}

impl From<LoginReport> for LoggedIn {
    fn from(report: LoginReport) -> Self {
        Self {
            scope: report.scope.to_string(),
            kind: report.kind.as_str(),
            secret_name: report.secret_name.as_str().to_owned(),
            version: report.version,
            keyless: report.is_keyless,
            proven: report.proven.as_str(),
            token_service: report.token_service,
            not_after: report.not_after.map(show_time),
            hints: report.hints,
        }
    }
}

pub(crate) async fn login(app: &App, args: LoginArgs) -> Result<()> {
    if args.from_docker {
        return from_docker::login(app, &args).await;
    }
    let [scope] = args.scopes.as_slice() else {
        return Err(Failure::invalid(
            "several scopes at once are for --from-docker",
        ));
    };
    let scope = parse_scope(scope)?;
    let given = credential(&scope, &args)?;
    let request = LoginRequest {
        credential: given.credential,
        settings: settings(&args)?,
        scope,
    };
    let opened = app.open().await?;
    let report = opened.broker.login(opened.workspace, request).await?;
    let mut logged_in = LoggedIn::from(report);
    let hints = given.hints.iter().map(ToString::to_string);
    logged_in.hints.splice(0..0, hints);
    app.output.show(&logged_in, render)
}

fn render(report: &LoggedIn) -> String {
    let proven = match report.proven {
        "repository" => "the registry let it read the repository",
        _ => "the registry accepted it",
    };
    let done = if report.keyless {
        "noted a keyless"
    } else {
        "sealed a"
    };
    let mut text = format!(
        "{done} {} credential for {} (version {}): {proven}",
        report.kind, report.scope, report.version
    );
    if let Some(service) = &report.token_service {
        text.push_str(&format!("\ntokens come from {service}"));
    }
    if let Some(end) = &report.not_after {
        text.push_str(&format!("\nit stops working at {end}"));
    }
    for hint in &report.hints {
        text.push_str(&format!("\nhint: {hint}"));
    }
    text
}

fn credential(scope: &RegistryScope, args: &LoginArgs) -> Result<Detected> {
    let registry = scope.registry();
    if args.token_stdin {
        let token = secret_input::from_stdin("the token")?;
        return Ok(from_token(registry, args.username.as_deref(), &token)?);
    }
    if args.keyless.keyless {
        return Ok(from_keyless(registry, keyless(&args.keyless)?)?);
    }
    if let Some(name) = &args.node_identity {
        return Ok(from_keyless(registry, Keyless::Node { name })?);
    }
    if let Some(path) = &args.service_account_file {
        let json = secret_input::from_file("the service account's key", path)?;
        return Ok(from_service_account(registry, &json)?);
    }
    if let Some(username) = &args.username {
        let password = secret_input::from_stdin("the password")?;
        return Ok(from_password(registry, username, &password)?);
    }
    let names: Vec<&str> = args.from_env.iter().map(String::as_str).collect();
    let environment: BTreeMap<String, String> = names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect();
    Ok(token_exchange::from_key_names(
        registry,
        &names,
        &environment,
    )?)
}

fn keyless(args: &KeylessArgs) -> Result<Keyless<'_>> {
    if let Some(role_arn) = &args.aws_role_arn {
        return Ok(Keyless::Aws {
            role_arn,
            session_name: args.aws_role_session_name.as_deref(),
        });
    }
    if let Some(provider) = &args.google_provider {
        return Ok(Keyless::Google {
            provider,
            service_account: args.google_service_account.as_deref(),
        });
    }
    match (&args.azure_client_id, &args.azure_tenant_id) {
        (Some(client_id), Some(tenant_id)) => Ok(Keyless::Azure {
            client_id,
            tenant_id,
        }),
        _ => Err(Failure::invalid("--keyless needs whom the cloud trusts")),
    }
}

fn settings(args: &LoginArgs) -> Result<RegistrySettings> {
    Ok(RegistrySettings {
        plain_http: args.plain_http,
        ca_pem: args.ca_file.as_deref().map(read_pem).transpose()?,
        token_service: args.token_service.clone(),
        workers_may_hold_password: args.workers_may_hold_password,
    })
}

#[derive(Debug, Serialize)]
struct LoggedOut {
    scope: String,
    secret_name: String,
    versions: u32,
    grants_revoked: u64,
    /// What becomes of containers that run with it.
    running: &'static str,
}

pub(crate) async fn logout(app: &App, args: &LogoutArgs) -> Result<()> {
    let scope = parse_scope(&args.scope)?;
    let opened = app.open().await?;
    let (broker, workspace) = (&opened.broker, opened.workspace);
    let report = match args.running {
        Some(running) => broker.logout_and(workspace, &scope, running).await?,
        None => broker.logout(workspace, &scope).await?,
    };
    let logged_out = LoggedOut {
        scope: report.scope.to_string(),
        secret_name: report.secret_name.as_str().to_owned(),
        versions: report.version,
        grants_revoked: report.grants_revoked,
        running: report.running.as_str(),
    };
    app.output.show(&logged_out, |report| {
        format!("removed the credential for {}", report.scope)
    })
}
