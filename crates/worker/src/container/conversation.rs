//! What happens between a container's program and the control plane, from the launch to the end.
//!
//! One task, which waits for everything at once and does one thing after the other, so that order
//! is kept: what a call wrote is said before its result, and everything before the end. Waiting for
//! a turn on the way up is what slows a program that writes too much. An error ([`Halt`]) is a
//! reason to stop talking; what there is left to hear is heard in [`Conversation::wind_down`].

mod event;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use image_store::{Touch, pack_touches};
use launch::{MountLog, NoticeKind, Outputs, Waterfall};
use tokio::time::Instant;
use worker_protocol as message;
use worker_protocol::MAX_PAYLOAD_BYTES;
use worker_protocol::call_result::Outcome as WireOutcome;
use worker_protocol::ended::Cause;
use worker_protocol::from_worker::Message;
use worker_protocol::output::Stream;

use self::event::{Event, Hearing};
use super::calls::CallError;
use super::end::{self, End, LaunchEnd, Trouble};
use super::{Command, Lines};
use crate::launching::Launched;
use crate::plan::{Plan, Setup};
use crate::runner::messages::{
    self, CallEnd, Format, Hello, Limits, MAX_ATTEMPT_BYTES, Malformed, Nonce, Outcome, Output,
    OutputStream, Said,
};
use crate::runner::wire::WireError;

/// What an archive of code may unpack to. Code is text; data belongs into an image.
const MAX_CODE_ENTRIES: u64 = 10_000;
const MAX_UNPACKED_BYTES: u64 = 64 << 20;

/// A runner that has closed its socket is ending, and its container with it.
const CLOSED_PATIENCE: Duration = Duration::from_secs(10);

/// A call that runs for longer than any may has been given up already.
const MAX_GRACE: Duration = Duration::from_hours(24);

/// One try at a start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attendance<'a> {
    pub(super) plan: &'a Plan,
    pub(super) interpreter: &'a str,
    pub(super) waterfall: &'a Waterfall,
    /// When it must be ready.
    pub(super) deadline: Instant,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Attended {
    Ended(End),
    /// Another one may be there.
    NoProgram(String),
}

/// Why there is nothing more to talk about.
#[derive(Debug)]
enum Halt {
    /// The container has ended, and all that it said was heard.
    Ended,
    /// It is to be ended.
    Because(End),
}

impl From<Malformed> for Halt {
    fn from(error: Malformed) -> Self {
        let reason = format!("the runner sent {error}");
        Self::Because(End::new(Cause::Malformed, reason))
    }
}

impl From<CallError> for Halt {
    fn from(error: CallError) -> Self {
        let reason = format!("the control plane sent a call {error}");
        Self::Because(End::new(Cause::Machine, reason))
    }
}

impl From<End> for Halt {
    fn from(end: End) -> Self {
        Self::Because(end)
    }
}

/// Stays with a launched program to its end.
pub(super) async fn attend(
    attendance: Attendance<'_>,
    launched: Launched,
    lines: &mut Lines,
) -> Attended {
    let mut conversation = Conversation {
        attendance,
        hearing: Hearing::new(launched, lines, attendance.deadline, late()),
        stage: Stage::Starting,
        trouble: None,
    };
    let Err(halt) = conversation.talk().await;
    conversation.wind_down(halt).await
}

/// A container that was not ready in time.
pub(crate) fn late() -> End {
    End::new(Cause::StartTimeout, "the container was not ready in time")
}

fn told_to() -> End {
    End::new(Cause::Stopped, "the container was told to end")
}

/// What a command means before there is anything to call.
pub(crate) fn heed_early(command: Option<&Command>) -> Result<(), End> {
    match command {
        Some(Command::Cancel { .. }) => Ok(()),
        Some(Command::Stop { .. }) | None => Err(told_to()),
        Some(Command::Call(_)) => {
            let reason = format!("the control plane sent a call {}", CallError::Early);
            Err(End::new(Cause::Machine, reason))
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Serving,
    /// It takes no more calls.
    Stopping,
}

/// What has to be answered.
#[derive(Debug)]
enum Happening {
    Started,
    Said(Said),
    Command(Command),
}

#[derive(Debug)]
struct Conversation<'a> {
    attendance: Attendance<'a>,
    hearing: Hearing<'a>,
    stage: Stage,
    trouble: Option<Trouble>,
}

impl Conversation<'_> {
    async fn talk(&mut self) -> Result<Infallible, Halt> {
        let Attendance {
            plan, waterfall, ..
        } = self.attendance;
        self.start().await?;
        let hello = waterfall.measure("python", self.greet()).await?;
        if let Some(reason) = hello.too_old() {
            return Err(End::new(Cause::NoPython, reason).into());
        }
        let Some(setup) = &plan.setup else {
            self.say_ready(hello).await;
            let reason = "the container was asked for its Python only";
            return Err(End::new(Cause::Stopped, reason).into());
        };
        waterfall.measure("load", self.load(setup)).await?;
        self.stage = Stage::Serving;
        self.hearing.patience = None;
        self.say_ready(hello).await;
        self.serve(setup).await
    }

    async fn start(&mut self) -> Result<(), Halt> {
        match self.next_early().await? {
            Happening::Started => Ok(()),
            _ => Err(Malformed::Message("a message before it runs").into()),
        }
    }

    async fn greet(&mut self) -> Result<Hello, Halt> {
        match self.next_early().await? {
            Happening::Said(Said::Hello(hello)) => Ok(hello),
            _ => Err(Malformed::Message("something else than hello first").into()),
        }
    }

    async fn load(&mut self, setup: &Setup) -> Result<(), Halt> {
        let places = self.hearing.places.clone();
        let message = messages::Setup {
            handler: &setup.handler,
            code: places.code.as_deref(),
            code_dir: &places.code_dir,
            limits: Limits {
                code_entries: MAX_CODE_ENTRIES,
                code_bytes: MAX_UNPACKED_BYTES,
                result_bytes: setup.result_limit_bytes as u64,
            },
            environment: &setup.environment,
            concurrency: setup.concurrency,
        };
        let message = message.encode().map_err(|error| {
            let reason = format!("handler and environment are {error}");
            End::new(Cause::Machine, reason)
        })?;
        self.hearing.outbox.put(message);
        loop {
            match self.next_early().await? {
                Happening::Said(Said::Ready) => return Ok(()),
                Happening::Said(Said::Failed(exception)) => return Err(failed(exception).into()),
                Happening::Said(Said::Output(output)) => self.pass_output(output, setup).await?,
                _ => return Err(Malformed::Message("a message out of turn").into()),
            }
        }
    }

    async fn say_ready(&mut self, hello: Hello) {
        let phases = self.attendance.waterfall.phases().into_iter();
        let phases = phases.map(|phase| message::Phase {
            name: phase.name.to_owned(),
            start_us: microseconds(phase.start),
            took_us: microseconds(phase.took),
        });
        let uplink = &self.hearing.lines.uplink;
        let ready = message::Ready {
            delivery: Some(uplink.delivery()),
            interpreter: self.attendance.interpreter.to_owned(),
            python_version: hello.python,
            phases: phases.collect(),
        };
        uplink.say(Message::Ready(ready)).await;
    }

    async fn serve(&mut self, setup: &Setup) -> Result<Infallible, Halt> {
        loop {
            match self.next().await? {
                Happening::Said(Said::Result(end)) => self.pass_result(end, setup).await?,
                Happening::Said(Said::Output(output)) => self.pass_output(output, setup).await?,
                Happening::Command(Command::Call(call)) => self.call(call).await?,
                Happening::Command(Command::Cancel { attempt }) => self.cancel(&attempt)?,
                Happening::Command(Command::Stop { grace }) => self.stop(grace)?,
                Happening::Started | Happening::Said(_) => {
                    return Err(Malformed::Message("a message out of turn").into());
                }
            }
        }
    }

    async fn call(&mut self, call: message::Call) -> Result<(), Halt> {
        if self.stage == Stage::Stopping {
            // It ends, which says that there is no result.
            return Ok(());
        }
        if self.hearing.calls.is_empty() {
            // What was written until now is of no call.
            self.pass_pending().await;
        }
        let nonce = <[u8; 16]>::try_from(&*call.nonce).map_err(|_| CallError::Meaningless)?;
        let format = match call.format() {
            message::Format::Pickle => Format::Pickle,
            message::Format::Json => Format::Json,
            message::Format::Unknown => return Err(CallError::Meaningless.into()),
        };
        let is_named = (1..=MAX_ATTEMPT_BYTES).contains(&call.attempt.len());
        if !is_named || call.payload.len() > MAX_PAYLOAD_BYTES {
            return Err(CallError::Meaningless.into());
        }
        let message = messages::Call {
            attempt: &call.attempt,
            nonce: Nonce(nonce),
            task: &call.task,
            format,
            python: Some(call.python_version.as_str()).filter(|version| !version.is_empty()),
        };
        let message = message.encode(call.payload);
        let message = message.map_err(|_| CallError::Meaningless)?;
        self.hearing.calls.give(call.attempt, Nonce(nonce))?;
        self.hearing.outbox.put(message);
        Ok(())
    }

    fn cancel(&mut self, attempt: &str) -> Result<(), Halt> {
        if self.hearing.calls.cancel(attempt) {
            let message = messages::cancel(attempt).map_err(|_| CallError::Meaningless)?;
            self.hearing.outbox.put(message);
        }
        Ok(())
    }

    fn stop(&mut self, grace: Duration) -> Result<(), Halt> {
        if grace.is_zero() {
            return Err(told_to().into());
        }
        if self.stage != Stage::Stopping {
            self.stage = Stage::Stopping;
            self.hearing.outbox.put(messages::stop());
        }
        let until = Instant::now() + grace.min(MAX_GRACE);
        self.hearing.wait_at_most(until, told_to());
        Ok(())
    }

    /// All that a call wrote is in the pipes before its result is in the socket.
    async fn pass_result(&mut self, end: CallEnd, setup: &Setup) -> Result<(), Halt> {
        if setup.concurrency == 1 {
            self.pass_pending().await;
        }
        self.hearing.calls.finish(&end)?;
        if end.payload.len() > setup.result_limit_bytes {
            return Err(Malformed::Message("a longer result than it may").into());
        }
        let uplink = &self.hearing.lines.uplink;
        let outcome = match end.outcome {
            Outcome::Returned => WireOutcome::Returned,
            Outcome::Raised => WireOutcome::Raised,
            Outcome::Cancelled => WireOutcome::Cancelled,
        };
        let result = message::CallResult {
            delivery: Some(uplink.delivery()),
            attempt: end.attempt,
            nonce: Bytes::copy_from_slice(&end.nonce.0),
            outcome: outcome.into(),
            exception: end.exception,
            payload: end.payload,
        };
        uplink.say(Message::Result(result)).await;
        Ok(())
    }

    /// A thread may write for a call that has its result; then it is not known whose it is.
    async fn pass_output(&mut self, output: Output, setup: &Setup) -> Result<(), Halt> {
        if setup.concurrency == 1 {
            return Err(Malformed::Message("output of one of several calls").into());
        }
        let attempt = output
            .attempt
            .filter(|attempt| self.hearing.calls.knows(attempt));
        let stream = match output.stream {
            OutputStream::Stdout => Stream::Stdout,
            OutputStream::Stderr => Stream::Stderr,
        };
        let uplink = &self.hearing.lines.uplink;
        let attempt = attempt.as_deref().unwrap_or_default();
        uplink.output(attempt, stream, output.data).await;
        Ok(())
    }

    /// The next thing before there is anything to call.
    async fn next_early(&mut self) -> Result<Happening, Halt> {
        loop {
            match self.next().await? {
                Happening::Command(command) => heed_early(Some(&command))?,
                happening => return Ok(happening),
            }
        }
    }

    /// The next thing that has to be answered; the rest is seen to.
    async fn next(&mut self) -> Result<Happening, Halt> {
        loop {
            if self.hearing.is_over() {
                return Err(Halt::Ended);
            }
            match self.hearing.event().await {
                Event::Started(outputs) => {
                    self.take_outputs(outputs)?;
                    return Ok(Happening::Started);
                }
                Event::Frame(Ok(Some(frame))) => return Ok(Happening::Said(Said::parse(frame)?)),
                // A program that is killed stops in the middle of what it says.
                Event::Frame(Ok(None) | Err(WireError::Cut | WireError::Io(_))) => self.closed(),
                Event::Frame(Err(error)) => return Err(Malformed::from(error).into()),
                Event::Command(Some(command)) => return Ok(Happening::Command(command)),
                Event::Command(None) => return Err(told_to().into()),
                Event::Output(stream, data) => self.pass(stream, data).await,
                Event::Log(log) => self.note(&log).await?,
                Event::Touched(touched) => self.say_touched(&touched).await,
                Event::OutOfPatience(_) if self.hearing.launch_end.is_some() => {
                    return Err(Halt::Ended);
                }
                Event::OutOfPatience(end) => return Err(end.into()),
                Event::Written | Event::Ended => {}
            }
        }
    }

    fn take_outputs(&mut self, outputs: Outputs) -> Result<(), End> {
        let taken = self.hearing.take_outputs(outputs);
        taken.map_err(|error| End::new(Cause::Machine, format!("its outputs: {error}")))
    }

    fn closed(&mut self) {
        self.hearing.is_closed = true;
        let until = Instant::now() + CLOSED_PATIENCE;
        let end = match self.stage {
            Stage::Stopping => told_to(),
            Stage::Starting | Stage::Serving => {
                End::new(Cause::Malformed, "the runner closed its socket and went on")
            }
        };
        self.hearing.wait_at_most(until, end);
    }

    /// An image that is damaged is not worth starting, or going on with.
    async fn note(&mut self, log: &MountLog) -> Result<(), End> {
        self.hearing.lines.uplink.notice(&end::line(log)).await;
        self.trouble = Trouble::after(self.trouble.take(), log);
        match log.kind {
            NoticeKind::Corrupt => Err(End::new(Cause::Index, log.message.clone())),
            _ => Ok(()),
        }
    }

    /// Tells what is foretold to the next start like this one.
    async fn say_touched(&self, touched: &[Touch]) {
        let uplink = &self.hearing.lines.uplink;
        let touched = message::Touched {
            delivery: Some(uplink.delivery()),
            interpreter: self.attendance.interpreter.to_owned(),
            trace: Some(message::Trace {
                touches: pack_touches(touched).into(),
            }),
        };
        uplink.say(Message::Touched(touched)).await;
    }

    /// Whose it is what the container's own outputs give.
    fn writer(&self) -> &str {
        match &self.attendance.plan.setup {
            Some(setup) if setup.concurrency == 1 => self.hearing.calls.first(),
            _ => "",
        }
    }

    async fn pass(&self, stream: Stream, data: Bytes) {
        let uplink = &self.hearing.lines.uplink;
        uplink.output(self.writer(), stream, data).await;
    }

    /// Passes on what is in the pipes now.
    async fn pass_pending(&mut self) {
        for index in 0..self.hearing.pipes.len() {
            let mut pending_bytes = self.hearing.pipes[index].pending_bytes();
            while pending_bytes > 0 {
                let pipe = &mut self.hearing.pipes[index];
                let (stream, data) = (pipe.stream(), pipe.take(pending_bytes));
                if data.is_empty() {
                    break;
                }
                pending_bytes -= data.len();
                self.pass(stream, data).await;
            }
        }
    }

    /// Ends the container if it has not ended, passes on what there is left of its output, and says
    /// why it was.
    async fn wind_down(mut self, halt: Halt) -> Attended {
        self.hearing.hush();
        while self.hearing.launch_end.is_none() {
            match self.hearing.event().await {
                Event::Started(outputs) => {
                    if let Err(end) = self.take_outputs(outputs) {
                        tracing::debug!(reason = end.reason, "a container's last words are lost");
                    }
                }
                Event::Output(stream, data) => self.pass(stream, data).await,
                Event::Log(log) => drop(self.note(&log).await),
                Event::Touched(touched) => self.say_touched(&touched).await,
                _ => {}
            }
        }
        self.pass_pending().await;
        while let Ok(log) = self.hearing.logs.try_recv() {
            // Whatever it says, there is nothing left to end.
            drop(self.note(&log).await);
        }
        if let Ok(touched) = self.hearing.touched.try_recv() {
            self.say_touched(&touched).await;
        }
        self.verdict(halt)
    }

    fn verdict(mut self, halt: Halt) -> Attended {
        let ended = self.hearing.launch_end.take();
        let launch = ended.clone();
        let end = match (halt, ended) {
            (Halt::Ended, Some(LaunchEnd::NoProgram(reason))) => {
                return Attended::NoProgram(reason);
            }
            (Halt::Ended, Some(ended)) if self.stage != Stage::Stopping => End::from(ended),
            (Halt::Because(end), Some(LaunchEnd::Exited { code, .. })) => End {
                exit_code: code.into(),
                ..end
            },
            (Halt::Because(end), _) => end,
            (Halt::Ended, ended) => End {
                exit_code: ended.map_or(0, |ended| End::from(ended).exit_code),
                ..told_to()
            },
        };
        Attended::Ended(match self.stage {
            Stage::Starting => {
                end::explained(end::without_image(end, launch.as_ref()), self.trouble)
            }
            Stage::Serving | Stage::Stopping => end,
        })
    }
}

fn failed(exception: message::Exception) -> End {
    End {
        exception: Some(exception),
        ..End::new(Cause::SetupFailed, "the function could not be loaded")
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
