//! `holdfast kubelet-credential-provider`: a credential provider plugin of Kubernetes' kubelet. It
//! answers with what somebody shared with the kubelet for the image, and with nothing otherwise.

use std::time::Duration;

use broker::{Asked, BrokerError, HandedOut, Recipient};
use credential::kubelet::{KubeletAuth, KubeletRequest, REQUEST_LIMIT_BYTES};
use jiff::Timestamp;

use crate::app::App;
use crate::bounded_file;
use crate::failure::{Failure, Result, printable};
use crate::output::{write_error_line, write_out};

/// A credential that was removed, unshared or replaced is in use for no longer than this.
const KEPT_AT_MOST: Duration = Duration::from_mins(10);
/// A pull that begins with a password still ends with it.
const LEFT_AT_LEAST: Duration = Duration::from_mins(5);

pub(crate) async fn answer(app: &App) -> Result<()> {
    let limit = REQUEST_LIMIT_BYTES as u64;
    let input = bounded_file::read_opened(std::io::stdin().lock(), limit);
    let input = input.map_err(|error| bounded_file::failure("standard input", &error))?;
    let request = KubeletRequest::parse(&input).map_err(Failure::invalid)?;
    let given = hand_out(app, &request).await?;
    let auth = given.map(|given| KubeletAuth {
        keep_for: keep_for(given.not_after, Timestamp::now()),
        username: given.username,
        password: given.password,
    });
    let mut text = request.response(auth.as_ref());
    text.push('\n');
    write_out(&text)
}

async fn hand_out(app: &App, request: &KubeletRequest) -> Result<Option<HandedOut>> {
    let Some(opened) = app.open_if_there().await? else {
        return Ok(None);
    };
    let asked = Asked::Repository {
        registry: request.image.registry().clone(),
        repository: request.image.repository().to_owned(),
    };
    let given = opened
        .broker
        .hand_out(opened.workspace, &asked, Recipient::Kubelet);
    match given.await {
        Ok(given) => Ok(Some(given)),
        // Other providers may have one, or the image is for everybody.
        Err(BrokerError::NoCredential { .. }) => Ok(None),
        Err(error @ BrokerError::NotShared { .. }) => {
            write_error_line(&format!("holdfast: {}", printable(&error.to_string())));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// How long the kubelet may answer by itself.
fn keep_for(not_after: Option<Timestamp>, now: Timestamp) -> Duration {
    let Some(end) = not_after else {
        return KEPT_AT_MOST;
    };
    let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
    left.saturating_sub(LEFT_AT_LEAST).min(KEPT_AT_MOST)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn what_ends_is_not_kept_to_its_end() {
        let now = Timestamp::UNIX_EPOCH;
        let in_minutes = |minutes| now.checked_add(SignedDuration::from_mins(minutes)).ok();
        for (end, minutes) in [
            (None, 10),
            (in_minutes(12 * 60), 10),
            (in_minutes(15), 10),
            (in_minutes(8), 3),
            (in_minutes(5), 0),
            (in_minutes(-1), 0),
        ] {
            assert_eq!(keep_for(end, now), Duration::from_mins(minutes), "{end:?}");
        }
    }
}
