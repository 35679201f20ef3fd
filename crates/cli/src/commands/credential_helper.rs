//! `holdfast credential-helper`, and the same as `docker-credential-holdfast`: the protocol of
//! docker's credential helpers, for docker, podman, skopeo and all that speak it.
//!
//! What fails is said on standard output with exit code 1, as clients expect. Only what somebody
//! shared with docker is handed out or listed.

use std::collections::BTreeMap;

use broker::{Asked, BrokerError, LoginRequest, Recipient, RegistrySettings};
use credential::docker_config::{TEXT_LIMIT, scope_of, server_of};
use credential::docker_helper::{NOT_FOUND, read_store, reply};
use credential::{Credential, CredentialKind, RegistryScope};
use zeroize::Zeroizing;

use crate::app::{App, Opened};
use crate::args::HelperCommand;
use crate::bounded_file;
use crate::failure::{Failure, Kind, Result, printable};
use crate::output::{write_error_line, write_out};

/// The name under which docker starts a helper that is called `holdfast`.
pub(crate) const PROGRAM: &str = "docker-credential-holdfast";
/// Who the audit log says it was.
const ACTOR: &str = "docker credential helper";
/// What docker's own helpers read of a server's name.
const SERVER_LIMIT_BYTES: u64 = 64 << 10;
/// Words of docker's own helpers.
const NO_SERVER: &str = "no credentials server URL";

/// What a program says whose question was not answered.
const REFUSED: u8 = 1;

pub(crate) async fn run(app: Result<App>, command: &HelperCommand) -> Result<u8> {
    match answer(app, command).await {
        Ok(text) => {
            write_out(&text)?;
            Ok(0)
        }
        Err(failure) => {
            write_out(&format!("{}\n", printable(&failure.message)))?;
            if let Some(hint) = &failure.hint {
                write_error_line(&format!("hint: {}", printable(hint)));
            }
            Ok(REFUSED)
        }
    }
}

async fn answer(app: Result<App>, command: &HelperCommand) -> Result<Zeroizing<String>> {
    let app = &app?;
    match command {
        HelperCommand::Get => get(app).await,
        HelperCommand::Store => store(app).await,
        HelperCommand::Erase => erase(app).await,
        HelperCommand::List => list(app).await,
        HelperCommand::Version => Ok(version()),
    }
}

fn version() -> Zeroizing<String> {
    Zeroizing::new(format!(
        "{PROGRAM} (Holdfast) {}\n",
        env!("CARGO_PKG_VERSION")
    ))
}

async fn get(app: &App) -> Result<Zeroizing<String>> {
    let server = read_server()?;
    // What is no scope can have no credential.
    let scope = scope_of(&server).map_err(|_| not_found())?;
    let opened = app.open_if_there().await?.ok_or_else(not_found)?;
    let asked = asked(&scope);
    let given = opened
        .broker
        .hand_out(opened.workspace, &asked, Recipient::Docker);
    let given = given.await.map_err(refused)?;
    let mut text = reply(&server, &given.username, &given.password);
    text.push('\n');
    Ok(text)
}

/// Clients go on without a credential where there is none, and tell no other reason.
fn refused(error: BrokerError) -> Failure {
    match error {
        BrokerError::NoCredential { .. } => not_found(),
        BrokerError::NotShared { .. } | BrokerError::SeveralShared { .. } => {
            write_error_line(&format!("holdfast: {}", printable(&error.to_string())));
            not_found().hint_if(error.hint())
        }
        other => other.into(),
    }
}

/// Checked with the registry and sealed, with the settings of a login before.
async fn store(app: &App) -> Result<Zeroizing<String>> {
    let input = bounded_file::read_opened(std::io::stdin().lock(), TEXT_LIMIT as u64);
    let input = input.map_err(|error| bounded_file::failure("standard input", &error))?;
    let request = read_store(&input)
        .map_err(|_| Failure::invalid("standard input is no credential as docker stores it"))?;
    if request.server.is_empty() {
        return Err(Failure::invalid(NO_SERVER));
    }
    let scope = parse_server(&request.server)?;
    let credential = request.credential(scope.registry())?.credential;
    let opened = app.open().await?;
    refuse_what_was_minted(&opened, &scope, &credential).await?;
    let request = LoginRequest {
        settings: settings(&opened, &scope).await?,
        scope,
        credential,
    };
    opened
        .broker
        .login_with(opened.workspace, request, ACTOR)
        .await?;
    Ok(Zeroizing::default())
}

/// Docker stores again what it was given, and a password of some hours must not take the place of
/// the keys that it was made of.
async fn refuse_what_was_minted(
    opened: &Opened,
    scope: &RegistryScope,
    credential: &Credential,
) -> Result<()> {
    let rows = opened.broker.list(opened.workspace).await?;
    let clouds = [
        CredentialKind::Aws,
        CredentialKind::Gcp,
        CredentialKind::Azure,
    ];
    let is_of_cloud = |kind: &str| clouds.iter().any(|cloud| cloud.as_str() == kind);
    let sealed = rows.iter().find(|row| row.scope == *scope);
    if credential.is_traded() || !sealed.is_some_and(|row| is_of_cloud(&row.kind)) {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "{scope} has a cloud's credential here, of which passwords are made; `holdfast login` \
         replaces it"
    )))
}

async fn settings(opened: &Opened, scope: &RegistryScope) -> Result<RegistrySettings> {
    let all = opened.broker.store().settings(opened.workspace).await?;
    let own = all.into_iter().find(|(text, _)| *text == scope.to_string());
    Ok(own.map(|(_, settings)| settings).unwrap_or_default())
}

/// Clients erase what may not be there.
async fn erase(app: &App) -> Result<Zeroizing<String>> {
    let scope = parse_server(&read_server()?)?;
    if let Some(opened) = app.open_if_there().await? {
        match opened.broker.logout(opened.workspace, &scope).await {
            Ok(_) | Err(BrokerError::NoCredential { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Zeroizing::default())
}

async fn list(app: &App) -> Result<Zeroizing<String>> {
    let mut users: BTreeMap<String, String> = BTreeMap::new();
    if let Some(opened) = app.open_if_there().await? {
        let listed = opened
            .broker
            .handed_out_to(opened.workspace, Recipient::Docker);
        let listed = listed.await?.into_iter();
        users.extend(listed.map(|(registry, user)| (server_of(&registry), user)));
    }
    let text = serde_json::to_string(&users);
    let text = text.map_err(|error| Failure::of(Kind::Internal, &error))?;
    Ok(Zeroizing::new(format!("{text}\n")))
}

fn asked(scope: &RegistryScope) -> Asked {
    let registry = scope.registry().clone();
    match scope.path() {
        None => Asked::Registry(registry),
        Some(path) => Asked::Repository {
            registry,
            repository: path.to_owned(),
        },
    }
}

fn not_found() -> Failure {
    Failure::new(Kind::NotFound, NOT_FOUND)
}

fn parse_server(server: &str) -> Result<RegistryScope> {
    scope_of(server).map_err(|error| Failure::invalid(format!("the server {error}")))
}

/// One line. Docker's own helpers join several, which would make of two names a third.
fn read_server() -> Result<String> {
    let read = bounded_file::read_opened(std::io::stdin().lock(), SERVER_LIMIT_BYTES);
    let text = read.and_then(bounded_file::text);
    let text = text.map_err(|error| bounded_file::failure("standard input", &error))?;
    let server = text.trim();
    if server.is_empty() {
        return Err(Failure::invalid(NO_SERVER));
    }
    if server.contains(char::is_control) {
        return Err(Failure::invalid("the server is more than one line"));
    }
    Ok(server.to_owned())
}
