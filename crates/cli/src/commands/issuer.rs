//! `holdfast issuer show|export|withdraw|rotate`.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use broker::{BrokerError, CONFIGURATION_PATH, IssuerReport, IssuerUrl, KEYS_PATH, KeyRow};
use serde::Serialize;
use serde_json::{Value, json};

use crate::app::{ACTOR, App};
use crate::args::IssuerCommand;
use crate::failure::{Failure, Kind, Result};
use crate::output::show_time;

/// Everybody may read what is exported: a web host of another user serves it.
const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

pub(crate) async fn issuer(app: &App, command: IssuerCommand) -> Result<()> {
    match command {
        IssuerCommand::Show => show(app).await,
        IssuerCommand::Export { directory } => export(app, &directory).await,
        IssuerCommand::Withdraw => withdraw(app).await,
        IssuerCommand::Rotate { replace_all } => rotate(app, replace_all).await,
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    url: String,
    workspace: String,
    subject: String,
    external_id: String,
    keys: Vec<ShownKey>,
    next_signs_from: Option<String>,
    signs_since: String,
    /// From when on a gateway that publishes the documents has the next key sign.
    is_old_from: String,
    /// When the documents were exported last; keys are then replaced by hand.
    exported_at: Option<String>,
    aws: Aws,
    google: Google,
    azure: Azure,
}

#[derive(Debug, Serialize)]
struct ShownKey {
    id: String,
    state: &'static str,
    published_at: String,
    retired_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct Aws {
    provider_url: String,
    audience: &'static str,
    /// Of the role, with the account's number to be put in.
    trust_policy: Value,
}

#[derive(Debug, Serialize)]
struct Google {
    issuer_uri: String,
    /// The provider's own default.
    allowed_audiences: Option<&'static str>,
    attribute_mapping: &'static str,
    /// Who is given roles, with the pool to be put in.
    principal: String,
}

#[derive(Debug, Serialize)]
struct Azure {
    issuer: String,
    subject: String,
    audiences: [&'static str; 1],
}

const AWS_AUDIENCE: &str = "sts.amazonaws.com";
const AZURE_AUDIENCE: &str = "api://AzureADTokenExchange";

impl Shown {
    fn new(report: IssuerReport, workspace: String) -> Self {
        let IssuerReport {
            url,
            keys,
            signs_since,
            is_old_from,
            exported_at,
            next_signs_from,
            subject,
            external_id,
        } = report;
        Self {
            workspace,
            keys: keys.into_iter().map(ShownKey::from).collect(),
            next_signs_from: next_signs_from.map(show_time),
            signs_since: show_time(signs_since),
            is_old_from: show_time(is_old_from),
            exported_at: exported_at.map(show_time),
            aws: Aws {
                provider_url: url.to_string(),
                audience: AWS_AUDIENCE,
                trust_policy: trust_policy(&url, &subject),
            },
            google: Google {
                issuer_uri: url.to_string(),
                allowed_audiences: None,
                attribute_mapping: "google.subject=assertion.sub",
                principal: format!(
                    "principal://iam.googleapis.com/projects/PROJECT_NUMBER/locations/global/\
                     workloadIdentityPools/POOL/subject/{subject}"
                ),
            },
            azure: Azure {
                issuer: url.to_string(),
                subject: subject.clone(),
                audiences: [AZURE_AUDIENCE],
            },
            url: url.to_string(),
            subject,
            external_id,
        }
    }
}

impl From<KeyRow> for ShownKey {
    fn from(row: KeyRow) -> Self {
        Self {
            id: row.id,
            state: row.state.as_str(),
            published_at: show_time(row.published_at),
            retired_at: row.retired_at.map(show_time),
        }
    }
}

/// Both are compared: a role that looks at the audience alone trusts every workspace.
fn trust_policy(url: &IssuerUrl, subject: &str) -> Value {
    let name = url.without_scheme();
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": { "Federated": format!("arn:aws:iam::ACCOUNT:oidc-provider/{name}") },
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": { "StringEquals": {
                format!("{name}:aud"): AWS_AUDIENCE,
                format!("{name}:sub"): subject,
            } },
        }],
    })
}

async fn show(app: &App) -> Result<()> {
    let opened = app.open().await?;
    let report = opened.broker.issuer(opened.workspace).await?;
    let shown = Shown::new(report, app.settings.workspace.to_string());
    app.output.show(&shown, render)
}

fn render(shown: &Shown) -> String {
    let Shown {
        url,
        workspace,
        subject,
        external_id,
        aws,
        google,
        azure,
        ..
    } = shown;
    let mut text = format!(
        "issuer       {url}\nworkspace    {workspace}\nsubject      {subject}\n\
         external id  {external_id}\n"
    );
    for key in &shown.keys {
        text.push_str(&format!("key          {} ({})\n", key.id, key.state));
    }
    text.push_str(&replacement(shown));
    let policy = serde_json::to_string_pretty(&aws.trust_policy).expect("texts serialise");
    text.push_str(&format!(
        "\nAWS: an OpenID Connect provider with this URL and the audience {}, and a role with this \
         trust policy\n{policy}\n",
        aws.audience
    ));
    text.push_str(&format!(
        "\nGoogle: a provider of a workload identity pool with the issuer {}, the default audience \
         and the mapping {}; roles for\n{}\n",
        google.issuer_uri, google.attribute_mapping, google.principal
    ));
    text.push_str(&format!(
        "\nAzure: a federated credential of an application with\nissuer    {}\nsubject   {}\n\
         audience  {}",
        azure.issuer, azure.subject, azure.audiences[0]
    ));
    text
}

/// Who replaces the current key, and from when on.
fn replacement(shown: &Shown) -> String {
    let Shown {
        signs_since,
        is_old_from,
        ..
    } = shown;
    let who = match &shown.exported_at {
        Some(at) => format!("by hand, since the documents were exported ({at})"),
        None => "by the gateway, if clouds ask it for the documents".to_owned(),
    };
    format!("signs since  {signs_since}\nold from     {is_old_from}, and replaced then {who}\n")
}

#[derive(Debug, Serialize)]
struct Exported {
    url: String,
    files: Vec<PathBuf>,
    /// When the next key may sign: what is served must have been exported before.
    next_signs_from: Option<String>,
}

async fn export(app: &App, directory: &Path) -> Result<()> {
    let opened = app.open().await?;
    // Before anybody has them.
    opened.broker.note_issuer_export(ACTOR).await?;
    let report = opened.broker.issuer(opened.workspace).await?;
    let documents = opened.broker.issuer_documents().await?;
    let documents = documents.ok_or(BrokerError::NoIssuer)?;
    // Keys first: what names them is there when they are.
    let files = [
        (KEYS_PATH, documents.keys),
        (CONFIGURATION_PATH, documents.configuration),
    ];
    let mut written = Vec::new();
    for (path, document) in files {
        let file = directory.join(path.trim_start_matches('/'));
        write(&file, &document)?;
        written.push(file);
    }
    let exported = Exported {
        url: report.url.to_string(),
        files: written,
        next_signs_from: report.next_signs_from.map(show_time),
    };
    app.output.show(&exported, |exported| {
        let names = exported.files.iter();
        let names: Vec<String> = names.map(|file| file.display().to_string()).collect();
        format!(
            "wrote {}\nserve them as application/json below {}, and export again after each \
             rotation",
            names.join(" and "),
            exported.url
        )
    })
}

#[derive(Debug, Serialize)]
struct Withdrawn {
    /// Whether an export was on record.
    was_exported: bool,
}

async fn withdraw(app: &App) -> Result<()> {
    let opened = app.open().await?;
    let was_exported = opened.broker.withdraw_issuer_export(ACTOR).await?;
    app.output.show(&Withdrawn { was_exported }, |withdrawn| {
        let what = if withdrawn.was_exported {
            "what was exported counts no more"
        } else {
            "nothing was exported"
        };
        format!("{what}: the gateway replaces keys that are old")
    })
}

/// The old file stays until the new one is whole.
fn write(file: &Path, document: &Value) -> Result<()> {
    let failed =
        |error: io::Error| Failure::new(Kind::Machine, format!("{}: {error}", file.display()));
    let parent = file.parent().unwrap_or(Path::new("."));
    make_directory(parent).map_err(failed)?;
    replace(file, &document.to_string()).map_err(failed)
}

fn replace(file: &Path, text: &str) -> io::Result<()> {
    let new = file.with_extension(format!("json.{}", std::process::id()));
    // A web root may be another user's, whose link there is not followed.
    let mut opened = File::create_new(&new)?;
    let written = opened
        .write_all(text.as_bytes())
        .and_then(|()| opened.set_permissions(Permissions::from_mode(FILE_MODE)))
        .and_then(|()| opened.sync_all())
        .and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// Makes what is missing of a directory, for everybody to read whatever the umask.
fn make_directory(directory: &Path) -> io::Result<()> {
    let above = directory.ancestors();
    let missing = above.take_while(|above| !above.as_os_str().is_empty() && !above.exists());
    let missing: Vec<_> = missing.collect();
    for directory in missing.into_iter().rev() {
        DirBuilder::new().create(directory)?;
        fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE))?;
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct Rotated {
    keys: Vec<ShownKey>,
    next_signs_from: Option<String>,
}

async fn rotate(app: &App, replace_all: bool) -> Result<()> {
    let opened = app.open().await?;
    let broker = &opened.broker;
    if replace_all {
        broker.replace_issuer_keys(ACTOR).await?;
    } else {
        broker.rotate_issuer_keys(ACTOR).await?;
    }
    let report = broker.issuer(opened.workspace).await?;
    let rotated = Rotated {
        keys: report.keys.into_iter().map(ShownKey::from).collect(),
        next_signs_from: report.next_signs_from.map(show_time),
    };
    app.output.show(&rotated, |rotated| {
        let rows = rotated.keys.iter();
        let rows: Vec<String> = rows
            .map(|key| format!("{}  {}", key.id, key.state))
            .collect();
        let mut text = rows.join("\n");
        if let Some(from) = &rotated.next_signs_from {
            text.push_str(&format!("\nthe next key may sign from {from}"));
        }
        text.push_str("\nwhere the documents were exported, export them again before");
        text
    })
}

#[cfg(test)]
mod tests {
    //! Files that others serve, in a directory where others may write.

    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_export_follows_no_link_and_is_for_everybody() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("web/.well-known/jwks.json");
        write(&file, &json!({"keys": 1})).unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        let process = std::process::id();
        for link in ["jwks.new", &format!("jwks.json.{process}")] {
            symlink(&victim, file.with_file_name(link)).unwrap();
            // Whether it is refused or another name is taken.
            let _ = write(&file, &json!({"keys": 2}));
            assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{link}");
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), FILE_MODE);
        assert_eq!(mode(file.parent().unwrap()), DIRECTORY_MODE);
    }
}
