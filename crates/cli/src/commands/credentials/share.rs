//! `holdfast credentials share|unshare`.

use broker::Recipient;
use serde::Serialize;

use crate::app::{ACTOR, App, parse_scope};
use crate::failure::{Failure, Kind, Result};
use crate::output::show_time;

#[derive(Debug, Serialize)]
struct Shared {
    scope: String,
    with: &'static str,
    /// `minted` for each time, or what is `stored`.
    given: &'static str,
    /// When what was given to try it ends.
    not_after: Option<String>,
}

pub(super) async fn share(app: &App, scope: &str, with: Recipient) -> Result<()> {
    let scope = parse_scope(scope)?;
    let opened = app.open().await?;
    let shared = opened.broker.share(opened.workspace, &scope, with, ACTOR);
    let tried = shared.await?;
    let shared = Shared {
        scope: scope.to_string(),
        with: with.as_str(),
        given: if tried.is_minted { "minted" } else { "stored" },
        not_after: tried.not_after.map(show_time),
    };
    app.output.show(&shared, render)
}

fn render(shared: &Shared) -> String {
    let Shared { scope, with, .. } = shared;
    let mut text = format!("the credential for {scope} is handed out to {with} from now on");
    let what = match shared.given {
        "minted" => "what it is given is minted each time",
        _ => {
            "what it is given is the stored user name and password, which no unsharing takes back: \
             the registry must be told to"
        }
    };
    text.push_str(&format!("\n{what}"));
    if let Some(end) = &shared.not_after {
        text.push_str(&format!("\none that is given now ends at {end}"));
    }
    text
}

#[derive(Debug, Serialize)]
struct Unshared {
    scope: String,
    with: &'static str,
}

pub(super) async fn unshare(app: &App, scope: &str, with: Recipient) -> Result<()> {
    let scope = parse_scope(scope)?;
    let opened = app.open().await?;
    let ended = opened.broker.unshare(opened.workspace, &scope, with, ACTOR);
    let with = with.as_str();
    if !ended.await? {
        let message = format!("no credential for {scope} is shared with {with}");
        return Err(Failure::new(Kind::NotFound, message));
    }
    let scope = scope.to_string();
    app.output.show(&Unshared { scope, with }, |ended| {
        format!(
            "the credential for {} is no longer handed out to {}",
            ended.scope, ended.with
        )
    })
}
