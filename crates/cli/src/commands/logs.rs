//! `holdfast logs [-f] TASK`: what a call prints, as it printed it.
//!
//! A stream that breaks is taken up at the byte where it broke, for as long as a gateway may take
//! to be started again. Output is the function's own and goes out as it is, like that of `run`.

use std::io::Write;
use std::time::{Duration, Instant};

use futures::StreamExt;
use ids::TaskId;
use serde::Deserialize;

use crate::app::App;
use crate::args::LogsArgs;
use crate::client::{GatewayClient, read_event};
use crate::failure::{Kind, Result};
use crate::output::{Output, bytes, is_read};

/// How long a gateway that was there may be away.
const AWAY_LIMIT: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
struct Printed {
    stream: String,
    text: String,
    /// After the text.
    offset: u64,
}

#[derive(Deserialize)]
struct End {
    outcome: String,
}

/// Why nothing more is shown of a stream.
enum Stop {
    /// So the call did.
    Ended(String),
    StreamEnded,
    NobodyReads,
}

/// One call, and how much of it was shown.
struct Reader {
    client: GatewayClient,
    output: Output,
    task: TaskId,
    is_followed: bool,
    offset: u64,
}

pub(crate) async fn logs(app: &App, args: &LogsArgs) -> Result<()> {
    let mut reader = Reader {
        client: GatewayClient::new(app, &args.gateway)?,
        output: app.output,
        task: args.task,
        is_followed: args.follow,
        offset: 0,
    };
    let mut heard_at = None;
    loop {
        let from = reader.offset;
        match reader.read().await {
            Ok(Stop::Ended(outcome)) => {
                app.output.note(&format!("the call has ended: {outcome}"));
                return Ok(());
            }
            Ok(Stop::NobodyReads) => return Ok(()),
            Ok(Stop::StreamEnded) if !args.follow => return Ok(()),
            Ok(Stop::StreamEnded) => heard_at = Some(Instant::now()),
            Err(failure) if failure.kind != Kind::Unreachable || !args.follow => {
                return Err(failure);
            }
            Err(failure) => {
                if reader.offset > from {
                    heard_at = Some(Instant::now());
                }
                // One that was never there is not waited for.
                let is_waited_for = heard_at.is_some_and(|at| at.elapsed() < AWAY_LIMIT);
                if !is_waited_for {
                    return Err(failure);
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Reader {
    /// Shows what comes, until there is no more of it or nobody for it.
    async fn read(&mut self) -> Result<Stop> {
        let path = format!(
            "/v1/tasks/{}/events?offset={}&follow={}",
            self.task, self.offset, self.is_followed
        );
        let mut events = self.client.events(&path).await?;
        while let Some(event) = events.next().await {
            let event = event?;
            let data = event.data.unwrap_or_default();
            match event.event.as_deref() {
                Some("gone") => self
                    .output
                    .note("what the call printed, if anything, is no longer kept"),
                Some("output") if !self.show(&read_event(&data)?)? => return Ok(Stop::NobodyReads),
                Some("end") => return Ok(Stop::Ended(read_event::<End>(&data)?.outcome)),
                _ => {}
            }
        }
        Ok(Stop::StreamEnded)
    }

    /// Answers whether anybody reads it.
    fn show(&mut self, printed: &Printed) -> Result<bool> {
        let missing = missing_bytes(self.offset, printed);
        if missing > 0 {
            let size = bytes(missing);
            self.output
                .note(&format!("{size} of earlier output are no longer kept"));
        }
        self.offset = printed.offset;
        if printed.stream == "stderr" {
            return is_read(
                std::io::stderr().write_all(printed.text.as_bytes()),
                "error",
            );
        }
        let mut stdout = std::io::stdout().lock();
        let written = stdout.write_all(printed.text.as_bytes());
        is_read(written.and_then(|()| stdout.flush()), "output")
    }
}

/// What was printed after this offset and before this, and is not kept.
fn missing_bytes(offset: u64, printed: &Printed) -> u64 {
    let start = printed.offset.saturating_sub(printed.text.len() as u64);
    start.saturating_sub(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_between_what_was_seen_and_what_comes() {
        let printed = |text: &str, offset| Printed {
            stream: "stdout".to_owned(),
            text: text.to_owned(),
            offset,
        };
        let table = [
            (0, "ab", 2, 0),
            (0, "ab", 12, 10),
            (10, "ab", 12, 0),
            (4, "é", 12, 6),
            // An offset within a character: the character comes whole.
            (1, "é", 2, 0),
            (0, "longer than it says", 2, 0),
        ];
        for (seen, text, offset, missing) in table {
            assert_eq!(
                missing_bytes(seen, &printed(text, offset)),
                missing,
                "{text}"
            );
        }
    }
}
