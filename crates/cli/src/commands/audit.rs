//! `holdfast audit blast`: what was given out to a worker, or of a credential.

use broker::{Blast, BlastOf, Exposed};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::app::{App, parse_scope};
use crate::args::{AuditCommand, BlastArgs};
use crate::failure::{Failure, Kind, Result, printable};
use crate::output::{or_dash, show_time, table};

/// As JSON, for scripts: fields are added and never change.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    exposed: Vec<Row>,
    /// What is to be changed where it is from, and then given anew here.
    rotate: Vec<String>,
    /// When the last token that ends by itself has ended.
    tokens_end: Option<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    secret: String,
    scope: Option<String>,
    version: u32,
    worker: Option<String>,
    container: String,
    /// The program of others that it was handed out to, where it was no container.
    recipient: Option<String>,
    repository: Option<String>,
    rung: String,
    first_at: String,
    last_at: String,
    not_after: Option<String>,
    alive: bool,
}

impl From<Exposed> for Row {
    fn from(exposed: Exposed) -> Self {
        Self {
            secret: exposed.secret,
            scope: exposed.scope,
            version: exposed.version,
            worker: exposed.worker,
            container: exposed.container,
            recipient: exposed.recipient,
            repository: exposed.repository,
            rung: exposed.rung,
            first_at: show_time(exposed.first_at),
            last_at: show_time(exposed.last_at),
            not_after: exposed.not_after.map(show_time),
            alive: exposed.is_alive,
        }
    }
}

impl From<Blast> for Shown {
    fn from(blast: Blast) -> Self {
        Self {
            exposed: blast.exposed.into_iter().map(Row::from).collect(),
            rotate: blast.rotate,
            tokens_end: blast.tokens_end.map(show_time),
        }
    }
}

pub(crate) async fn audit(app: &App, command: AuditCommand) -> Result<()> {
    match command {
        AuditCommand::Blast(args) => blast(app, &args).await,
    }
}

async fn blast(app: &App, args: &BlastArgs) -> Result<()> {
    let since = args.since.as_deref().map(parse_since).transpose()?;
    let scope = args.credential.as_deref().map(parse_scope).transpose()?;
    let opened = app.open().await?;
    let of = match (&args.worker, &scope) {
        (Some(named), _) => {
            let found = opened.broker.worker_that_was(named).await?;
            let worker = found.ok_or_else(|| {
                let message = format!("no worker {named:?} has ever joined");
                Failure::new(Kind::NotFound, message)
            })?;
            BlastOf::Worker(worker)
        }
        (None, Some(scope)) => BlastOf::Credential(opened.workspace, scope),
        (None, None) => return Err(Failure::invalid("name --worker or --credential")),
    };
    let blast = opened.broker.blast(of, since).await?;
    app.output.show(&Shown::from(blast), render)
}

/// A point in time, or how long ago it was.
fn parse_since(text: &str) -> Result<Timestamp> {
    let ago = |text: &str| {
        let ago: SignedDuration = text.parse().ok()?;
        (!ago.is_negative()).then(|| Timestamp::now().checked_sub(ago).ok())?
    };
    let since = text.parse().ok().or_else(|| ago(text));
    since.ok_or_else(|| {
        let message = format!("--since {text:?} is no time");
        Failure::invalid(message).hint("such as 2026-01-31T08:00:00Z, or 12h ago as 12h")
    })
}

pub(crate) fn render(shown: &Shown) -> String {
    if shown.exposed.is_empty() {
        return "nothing was given out".to_owned();
    }
    let cells = shown.exposed.iter().map(|row| {
        let ends = match (row.alive, &row.not_after) {
            (false, _) => "ended".to_owned(),
            (true, Some(end)) => end.clone(),
            (true, None) => "when it is rotated".to_owned(),
        };
        let secret = row.scope.as_ref().unwrap_or(&row.secret);
        let to = match &row.recipient {
            Some(recipient) => format!("{} (handed out)", printable(recipient)),
            None => printable(&row.container),
        };
        vec![
            to,
            or_dash(row.worker.as_deref()),
            format!("{} (version {})", printable(secret), row.version),
            or_dash(row.repository.as_deref()),
            row.rung.clone(),
            row.first_at.clone(),
            row.last_at.clone(),
            ends,
        ]
    });
    let headings = [
        "TO",
        "WORKER",
        "OF",
        "REPOSITORY",
        "GIVEN",
        "FIRST",
        "LAST",
        "ENDS",
    ];
    let mut text = table(&headings, cells);
    if !shown.rotate.is_empty() {
        let rotate = shown.rotate.iter().map(|name| printable(name));
        let rotate = rotate.collect::<Vec<_>>().join(", ");
        text.push_str(&format!(
            "\nrotate where they are from, and then here: {rotate}"
        ));
    }
    if let Some(end) = &shown.tokens_end {
        text.push_str(&format!("\nwhat ends by itself has ended at {end}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_points_or_ago() {
        let point = parse_since("2026-01-31T08:00:00Z").unwrap();
        assert_eq!(point.to_string(), "2026-01-31T08:00:00Z");
        let hours = Timestamp::now().duration_since(parse_since("12h").unwrap());
        assert!((hours - SignedDuration::from_hours(12)).abs() < SignedDuration::from_mins(1));
        for text in ["", "yesterday", "-1h", "12"] {
            assert!(parse_since(text).is_err(), "{text}");
        }
    }
}
