//! `holdfast credentials rotate`: a new secret, tried before it takes the place of the old one.

use broker::Trial;
use credential::SecretString;
use serde::Serialize;

use crate::app::{App, parse_scope};
use crate::commands::login::LoggedIn;
use crate::failure::{Failure, Kind, Result, printable};
use crate::output::table;
use crate::secret_input;

/// Where the next version is from.
pub(super) enum Source {
    /// Standard input.
    Input { username: Option<String> },
    /// The version before the current one.
    Before,
}

/// What follows the trial.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    TakeWhatWorks,
    TakeAnyway,
}

/// As JSON, for scripts.
#[derive(Debug, Serialize)]
struct Rotated {
    committed: bool,
    tried: Vec<Tried>,
    /// Of the new version, where there is one.
    #[serde(flatten)]
    logged_in: Option<LoggedIn>,
}

#[derive(Debug, Serialize)]
struct Tried {
    repository: String,
    image: String,
    ok: bool,
    kind: Option<&'static str>,
    message: Option<String>,
}

impl From<&Trial> for Tried {
    fn from(trial: &Trial) -> Self {
        let (kind, message) = trial.breaks.clone().unzip();
        Self {
            repository: trial.repository.clone(),
            image: trial.image.clone(),
            ok: kind.is_none(),
            kind,
            message: message.map(|message| printable(&message)),
        }
    }
}

/// Fails where something would break and nothing was taken, so that a script needs only the exit
/// code.
pub(super) async fn rotate(app: &App, scope: &str, source: Source, then: Then) -> Result<()> {
    let scope = parse_scope(scope)?;
    let input = match source {
        Source::Before => None,
        Source::Input { username } => {
            let secret: SecretString = secret_input::from_stdin("the new password or token")?;
            Some((username, secret))
        }
    };
    let opened = app.open().await?;
    let (broker, workspace) = (&opened.broker, opened.workspace);
    let rotation = match input {
        None => broker.try_undo(workspace, &scope).await?,
        Some((username, secret)) => {
            let trying = broker.try_rotation(workspace, &scope, username, secret);
            trying.await?
        }
    };
    let tried: Vec<Tried> = rotation.trials().iter().map(Tried::from).collect();
    let broken = tried.iter().filter(|tried| !tried.ok).count();
    let report = match then {
        Then::TakeAnyway => Some(rotation.commit_all_the_same().await?),
        Then::TakeWhatWorks if broken == 0 => Some(rotation.commit().await?),
        Then::TakeWhatWorks | Then::Nothing => None,
    };
    let takes = report.is_some();
    let rotated = Rotated {
        committed: takes,
        tried,
        logged_in: report.map(LoggedIn::from),
    };
    let done = if takes {
        format!("rotated the credential for {scope}")
    } else {
        format!("tried the new credential for {scope}, and changed nothing")
    };
    app.output
        .show(&rotated, |rotated| render(rotated, &done))?;
    if takes || broken == 0 {
        return Ok(());
    }
    let all = rotated.tried.len();
    let message = format!("the new credential breaks {broken} of {all} repositories in use");
    Err(Failure::new(Kind::Denied, message).hint("--force takes it all the same"))
}

fn render(rotated: &Rotated, done: &str) -> String {
    if rotated.tried.is_empty() {
        return format!("{done}\nno image in use is read with it");
    }
    let cells = rotated.tried.iter().map(|tried| {
        let outcome = tried.message.as_deref().unwrap_or("ok");
        vec![tried.repository.clone(), outcome.to_owned()]
    });
    format!("{}\n{done}", table(&["REPOSITORY", "OUTCOME"], cells))
}
