//! Everything that a container's conversation waits for, at once. Decides nothing: it says what
//! happened.

use std::io;
use std::mem::take;
use std::time::Duration;

use bytes::Bytes;
use image_store::Touch;
use launch::{MountLog, Outputs};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use worker_protocol::ended::Cause;
use worker_protocol::output::Stream;

use super::super::calls::Calls;
use super::super::end::{End, LaunchEnd};
use super::super::output::Pipe;
use super::super::{Command, Lines};
use crate::launching::{Launched, Places};
use crate::runner::wire::{Frame, FrameReader, Outbox, WireError};

/// What is in the socket of a container that has ended is there at once.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// What can happen.
#[derive(Debug)]
pub(super) enum Event {
    Started(Outputs),
    Frame(Result<Option<Frame>, WireError>),
    /// Some of what waits for the runner has gone to it.
    Written,
    /// Nothing once the worker lets the container go.
    Command(Option<Command>),
    Output(Stream, Bytes),
    Log(MountLog),
    /// What the container has read in its start.
    Touched(Vec<Touch>),
    /// Nothing of the program is left but what it wrote.
    Ended,
    OutOfPatience(End),
}

/// How long there is, and what it is then.
#[derive(Debug)]
pub(super) struct Patience {
    until: Instant,
    then: End,
}

#[derive(Debug)]
pub(super) struct Hearing<'a> {
    pub(super) lines: &'a mut Lines,
    pub(super) places: Places,
    pub(super) outbox: Outbox<OwnedWriteHalf>,
    pub(super) calls: Calls,
    /// Until the program runs.
    pub(super) outputs: Option<oneshot::Receiver<Outputs>>,
    /// Standard output and error, from then on.
    pub(super) pipes: Vec<Pipe>,
    pub(super) logs: mpsc::Receiver<MountLog>,
    pub(super) touched: mpsc::Receiver<Vec<Touch>>,
    pub(super) patience: Option<Patience>,
    /// The runner says nothing more.
    pub(super) is_closed: bool,
    pub(super) launch_end: Option<LaunchEnd>,
    reader: FrameReader<OwnedReadHalf>,
    kill: CancellationToken,
    launch: AbortOnDropHandle<LaunchEnd>,
    /// Whatever else happens does not count any more.
    is_hushed: bool,
}

impl<'a> Hearing<'a> {
    pub(super) fn new(launched: Launched, lines: &'a mut Lines, until: Instant, then: End) -> Self {
        let (reader, writer) = launched.socket.into_split();
        Self {
            lines,
            places: launched.places,
            outbox: Outbox::new(writer),
            calls: Calls::default(),
            outputs: Some(launched.outputs),
            pipes: Vec::new(),
            logs: launched.logs,
            touched: launched.touched,
            patience: Some(Patience { until, then }),
            is_closed: false,
            launch_end: None,
            reader: FrameReader::new(reader),
            kill: launched.kill,
            launch: launched.end,
            is_hushed: false,
        }
    }

    /// Waits until anything happens. A runner is heard once its outputs are, so that nothing of
    /// them is missed.
    pub(super) async fn event(&mut self) -> Event {
        loop {
            let is_started = !self.pipes.is_empty();
            let hears_runner = is_started && !self.is_closed && !self.is_hushed;
            let [stdout, stderr] = match &mut self.pipes[..] {
                [stdout, stderr] => [Some(stdout), Some(stderr)],
                _ => [None, None],
            };
            tokio::select! {
                frame = self.reader.next(), if hears_runner => return Event::Frame(frame),
                written = self.outbox.write_some(), if !self.outbox.is_empty() => {
                    if written.is_err() {
                        // That it is closed is heard too.
                        self.outbox.clear();
                    }
                    return Event::Written;
                }
                command = self.lines.inbox.recv(), if !self.is_hushed => {
                    return Event::Command(command);
                }
                outputs = started(&mut self.outputs) => {
                    self.outputs = None;
                    if let Some(outputs) = outputs {
                        return Event::Started(outputs);
                    }
                }
                (stream, data) = read(stdout) => return Event::Output(stream, data),
                (stream, data) = read(stderr) => return Event::Output(stream, data),
                Some(log) = self.logs.recv() => return Event::Log(log),
                Some(touched) = self.touched.recv() => return Event::Touched(touched),
                end = &mut self.launch, if self.launch_end.is_none() => {
                    return self.ended(end.unwrap_or_else(|_| panicked()));
                }
                end = impatience(&mut self.patience) => return Event::OutOfPatience(end),
            }
        }
    }

    /// That it had started may be heard only now.
    fn ended(&mut self, end: LaunchEnd) -> Event {
        self.launch_end = Some(end);
        let then = End::new(Cause::Malformed, "the container ended without end");
        self.wait_at_most(Instant::now() + DRAIN_PATIENCE, then);
        let outputs = self.outputs.take();
        match outputs.and_then(|mut outputs| outputs.try_recv().ok()) {
            Some(outputs) => Event::Started(outputs),
            None => Event::Ended,
        }
    }

    /// Whether the container has ended and said all.
    pub(super) fn is_over(&self) -> bool {
        let has_said_all = self.is_closed || self.pipes.is_empty();
        self.launch_end.is_some() && has_said_all
    }

    pub(super) fn take_outputs(&mut self, outputs: Outputs) -> io::Result<()> {
        let stdout = Pipe::new(Stream::Stdout, outputs.stdout)?;
        let stderr = Pipe::new(Stream::Stderr, outputs.stderr)?;
        self.pipes = vec![stdout, stderr];
        Ok(())
    }

    /// Shortens patience; it never gets longer.
    pub(super) fn wait_at_most(&mut self, until: Instant, then: End) {
        let is_sooner = self
            .patience
            .as_ref()
            .is_none_or(|patience| until < patience.until);
        if is_sooner {
            self.patience = Some(Patience { until, then });
        }
    }

    /// Ends the program, and hears nothing any more but its outputs and its end.
    pub(super) fn hush(&mut self) {
        self.kill.cancel();
        self.is_hushed = true;
        self.patience = None;
        self.outbox.clear();
    }
}

async fn started(outputs: &mut Option<oneshot::Receiver<Outputs>>) -> Option<Outputs> {
    match outputs {
        Some(outputs) => outputs.await.ok(),
        None => std::future::pending().await,
    }
}

async fn read(pipe: Option<&mut Pipe>) -> (Stream, Bytes) {
    match pipe {
        Some(pipe) => (pipe.stream(), pipe.read().await),
        None => std::future::pending().await,
    }
}

/// Resolves once, when there is no patience left.
async fn impatience(patience: &mut Option<Patience>) -> End {
    match patience {
        Some(Patience { until, .. }) => sleep_until(*until).await,
        None => std::future::pending().await,
    }
    take(patience).expect("there was some").then
}

/// A launch that panicked has been undone by its guards.
fn panicked() -> LaunchEnd {
    LaunchEnd::Failed(Cause::Machine, "the launch failed in itself".to_owned())
}
