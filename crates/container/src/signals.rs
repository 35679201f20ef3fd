//! Signals to this process, on their way to a container.
//!
//! From the first listener on, none of these ends the process any more: whoever listens decides.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use rustix::process::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

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

/// A listener; signals that came since it was made are not lost.
#[derive(Debug)]
pub struct Signals {
    streams: Vec<(Signal, Stream)>,
}

impl Signals {
    /// Starts to listen.
    pub fn listen() -> io::Result<Self> {
        let mut streams = Vec::with_capacity(SIGNALS.len());
        for number in SIGNALS {
            let stream = signal(SignalKind::from_raw(number.as_raw()))?;
            streams.push((number, stream));
        }
        Ok(Self { streams })
    }

    /// Waits until somebody wants this process to end, and says with which signal.
    pub async fn asked_to_end(&mut self) -> i32 {
        loop {
            let number = self.next().await;
            if [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT].contains(&number) {
                return number.as_raw();
            }
        }
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (number, stream) in &mut self.streams {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }
}
