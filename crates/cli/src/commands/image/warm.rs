//! `holdfast image warm`: an image into the cache of this machine, or of a worker.
//!
//! A worker is asked by the gateway that it has joined, which ends it when this ends.

use futures::StreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::{ImageArg, WarmArgs};
use crate::client::{GatewayClient, RefusalText, read_event};
use crate::commands::reference::parse;
use crate::failure::{Failure, Kind, Result};
use crate::output::{Output, bytes};
use crate::progress::short;

/// Longest name that a host has, which no worker's is longer than.
const MAX_NAME_BYTES: usize = 253;

#[derive(Serialize)]
struct Asked<'a> {
    image: &'a str,
    credential: Option<&'a str>,
}

#[derive(Deserialize)]
struct Progress {
    message: String,
}

#[derive(Deserialize)]
struct Reached {
    spans: u64,
    spans_present: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Warmed {
    worker: String,
    image: String,
    manifest_digest: String,
    compressed_bytes: u64,
    bytes_fetched: u64,
    spans: u64,
}

pub(super) async fn warm(app: &App, args: &WarmArgs) -> Result<()> {
    match &args.worker {
        Some(worker) => warm_worker(app, &args.image, worker).await,
        None => super::index(app, &args.image, image::Fill::Uncached).await,
    }
}

async fn warm_worker(app: &App, image: &ImageArg, worker: &str) -> Result<()> {
    // Before anybody is asked.
    parse(&image.image)?;
    let path = format!("/v1/workers/{}/warm", named(worker)?);
    let asked = Asked {
        image: &image.image,
        credential: image.credential.as_deref(),
    };
    let client = GatewayClient::own(app)?;
    let mut events = client.events_of(&path, &asked).await?;
    let mut shown = Shown::new(app.output);
    while let Some(event) = events.next().await {
        let event = event?;
        let data = event.data.unwrap_or_default();
        match event.event.as_deref() {
            Some("progress") => shown.line(&read_event::<Progress>(&data)?.message),
            Some("reached") => shown.reached(&read_event(&data)?),
            Some("error") => {
                shown.clear();
                return Err(read_event::<RefusalText>(&data)?.into());
            }
            Some("warmed") => {
                shown.clear();
                return app.output.show(&read_event::<Warmed>(&data)?, render);
            }
            _ => {}
        }
    }
    shown.clear();
    Err(Failure::new(
        Kind::Unreachable,
        "the gateway hung up before the image was there",
    ))
}

fn render(warmed: &Warmed) -> String {
    format!(
        "{} has all of {} ({}), {} of it fetched now",
        warmed.worker,
        warmed.image,
        short(&warmed.manifest_digest),
        bytes(warmed.bytes_fetched),
    )
}

/// The name of a worker, as part of a path. What no worker can be called is nobody's.
fn named(worker: &str) -> Result<&str> {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = (1..=MAX_NAME_BYTES).contains(&worker.len()) && worker.bytes().all(is_usual);
    // What the URL of a path would take for a step.
    if is_name && !worker.bytes().all(|byte| byte == b'.') {
        return Ok(worker);
    }
    Err(
        Failure::new(Kind::NotFound, format!("no worker {worker:?} has joined"))
            .hint("`holdfast worker list` shows those that have"),
    )
}

/// How far it is: a bar on a terminal, a line for each tenth elsewhere.
struct Shown {
    output: Output,
    bar: Option<ProgressBar>,
    tenths: u64,
}

impl Shown {
    fn new(output: Output) -> Self {
        let bar = output.progress_on_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let template = "warming {bar:32} {percent} % {eta}";
            let style = ProgressStyle::with_template(template);
            bar.set_style(style.expect("the template is constant"));
            bar
        });
        Self {
            output,
            bar,
            tenths: 0,
        }
    }

    fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.output.note(line)),
            None => self.output.note(line),
        }
    }

    fn reached(&mut self, reached: &Reached) {
        if let Some(bar) = &self.bar {
            bar.set_length(reached.spans);
            bar.set_position(reached.spans_present);
            return;
        }
        let (spans, present) = (u128::from(reached.spans), u128::from(reached.spans_present));
        let tenths = u64::try_from(present * 10 / spans.max(1)).unwrap_or_default();
        if tenths > self.tenths {
            self.tenths = tenths;
            self.line(&format!("{} % of it is there", tenths * 10));
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_worker_is_called_leads_nowhere() {
        for good in ["node-1", "wrk-0193", "a.example", "a_b"] {
            assert_eq!(named(good).unwrap(), good);
        }
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for bad in ["", "..", ".", "a/b", "a?b", "a b", "a%2fb", "ü", &long] {
            assert_eq!(named(bad).unwrap_err().kind, Kind::NotFound, "{bad}");
        }
    }
}
