//! What asks a container to end: the signals to this process, or a control that the caller keeps.
//!
//! From the first listener on, none of the signals ends the process any more: whoever listens
//! decides. A control reaches the one container that its other end was given to, and no process
//! signal does.

use std::future::{pending, poll_fn};
use std::io;
use std::task::Poll;

use rustix::process::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::watch;

/// What is passed on, and the change of the terminal's size.
const SIGNALS: [Signal; 7] = [
    Signal::INT,
    Signal::TERM,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
];

/// Those that ask for an end.
const ENDS: [Signal; 5] = [
    Signal::INT,
    Signal::TERM,
    Signal::HUP,
    Signal::QUIT,
    Signal::KILL,
];

/// A listener; what came since it was made is not lost.
#[derive(Debug)]
pub struct Signals(Source);

#[derive(Debug)]
enum Source {
    Process(Vec<(Signal, Stream)>),
    Control {
        asked: watch::Receiver<Asked>,
        heard: Asked,
    },
    Both {
        process: Vec<(Signal, Stream)>,
        asked: watch::Receiver<Asked>,
        heard: Asked,
    },
}

/// What a control was asked to do until now.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    terminations: u32,
    kill: bool,
}

/// Ends one container among many. Dropping it ends nothing.
#[derive(Clone, Debug)]
pub struct Control(watch::Sender<Asked>);

impl Control {
    /// Asks the container to end, as a SIGTERM to this process would.
    pub fn terminate(&self) {
        self.0
            .send_modify(|asked| asked.terminations = asked.terminations.saturating_add(1));
    }

    /// Ends the container at once.
    pub fn kill(&self) {
        self.0.send_modify(|asked| asked.kill = true);
    }
}

impl Signals {
    /// Starts to listen to this process's signals.
    pub fn listen() -> io::Result<Self> {
        let mut streams = Vec::with_capacity(SIGNALS.len());
        for number in SIGNALS {
            let stream = signal(SignalKind::from_raw(number.as_raw()))?;
            streams.push((number, stream));
        }
        Ok(Self(Source::Process(streams)))
    }

    /// Listens to a control alone.
    pub fn controlled() -> (Control, Self) {
        let (control, asked) = watch::channel(Asked::default());
        let heard = Asked::default();
        (Control(control), Self(Source::Control { asked, heard }))
    }

    /// Listens to a control too.
    #[must_use]
    pub fn with_control(self) -> (Control, Self) {
        let (control, asked) = watch::channel(Asked::default());
        let heard = Asked::default();
        let source = match self.0 {
            Source::Process(process) | Source::Both { process, .. } => Source::Both {
                process,
                asked,
                heard,
            },
            Source::Control { .. } => Source::Control { asked, heard },
        };
        (Control(control), Self(source))
    }

    /// Waits until somebody wants an end, and says with which signal.
    pub async fn asked_to_end(&mut self) -> i32 {
        loop {
            let number = self.next().await;
            if ENDS.contains(&number) {
                return number.as_raw();
            }
        }
    }

    /// The next signal. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Signal {
        match &mut self.0 {
            Source::Process(streams) => next_of_process(streams).await,
            Source::Control { asked, heard } => next_of_control(asked, heard).await,
            Source::Both {
                process,
                asked,
                heard,
            } => tokio::select! {
                signal = next_of_process(process) => signal,
                signal = next_of_control(asked, heard) => signal,
            },
        }
    }
}

async fn next_of_process(streams: &mut [(Signal, Stream)]) -> Signal {
    poll_fn(|context| {
        for (number, stream) in &mut *streams {
            if stream.poll_recv(context).is_ready() {
                return Poll::Ready(*number);
            }
        }
        Poll::Pending
    })
    .await
}

async fn next_of_control(asked: &mut watch::Receiver<Asked>, heard: &mut Asked) -> Signal {
    loop {
        let now = *asked.borrow_and_update();
        if now.kill && !heard.kill {
            heard.kill = true;
            return Signal::KILL;
        }
        if now.terminations > heard.terminations {
            heard.terminations += 1;
            return Signal::TERM;
        }
        if asked.changed().await.is_err() {
            // Every control is gone, so nobody will ask any more.
            pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    /// What is heard without waiting for anything.
    fn heard(signals: &mut Signals) -> Vec<i32> {
        let mut context = Context::from_waker(Waker::noop());
        let mut heard = Vec::new();
        while let Poll::Ready(number) = pin!(signals.asked_to_end()).poll(&mut context) {
            heard.push(number);
        }
        heard
    }

    #[test]
    fn a_control_is_heard_once_and_its_end_is_silence() {
        let (term, kill) = (Signal::TERM.as_raw(), Signal::KILL.as_raw());
        let (control, mut signals) = Signals::controlled();
        assert!(heard(&mut signals).is_empty());
        control.terminate();
        control.clone().terminate();
        assert_eq!(heard(&mut signals), [term, term]);
        control.terminate();
        control.kill();
        control.kill();
        drop(control);
        assert_eq!(heard(&mut signals), [kill, term]);
        assert!(heard(&mut signals).is_empty());
    }
}
