//! How a container ended, and what is said of it. Pure.

use launch::{MountLog, NoticeKind};
use worker_protocol::ended::Cause;
use worker_protocol::{Delivery, Ended, Exception};

/// People read reasons; what a program or a registry made of one is cut.
const MAX_REASON_CHARS: usize = 2000;

/// Why it ended, in the protocol's terms.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) cause: Cause,
    pub(crate) reason: String,
    pub(crate) exit_code: i32,
    pub(crate) exception: Option<Exception>,
}

impl End {
    pub(crate) fn new(cause: Cause, reason: impl Into<String>) -> Self {
        Self {
            cause,
            reason: reason.into(),
            exit_code: 0,
            exception: None,
        }
    }

    pub(crate) fn message(self, delivery: Delivery) -> Ended {
        Ended {
            delivery: Some(delivery),
            cause: self.cause.into(),
            reason: self.reason.chars().take(MAX_REASON_CHARS).collect(),
            exit_code: self.exit_code,
            exception: self.exception,
        }
    }
}

/// How a launch ended, by itself or because it was ended.
#[derive(Clone, Debug)]
pub(crate) enum LaunchEnd {
    /// The program ran to its end.
    Exited {
        code: u8,
        /// What to tell about memory that it had no more of.
        memory_note: Option<String>,
    },
    /// The image has no such program.
    NoProgram(String),
    Failed(Cause, String),
}

/// What the mount has said last of a registry that does not give what is read.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    cause: Cause,
    message: String,
}

impl Trouble {
    /// What a notice makes of what was known.
    pub(crate) fn after(before: Option<Self>, log: &MountLog) -> Option<Self> {
        let cause = match log.kind {
            NoticeKind::Recovered => return None,
            NoticeKind::CacheFull => return before,
            NoticeKind::Denied => Cause::Denied,
            NoticeKind::Corrupt => Cause::Index,
            NoticeKind::Waiting => Cause::Mount,
            // A read that failed after a denial failed of it.
            NoticeKind::Failed => before.map_or(Cause::Mount, |trouble| trouble.cause),
        };
        let message = log.message.clone();
        Some(Self { cause, message })
    }
}

impl From<LaunchEnd> for End {
    fn from(end: LaunchEnd) -> Self {
        match end {
            LaunchEnd::Exited {
                memory_note: Some(note),
                code,
            } => Self {
                exit_code: code.into(),
                ..Self::new(Cause::OutOfMemory, note)
            },
            LaunchEnd::Exited { code, .. } => Self {
                exit_code: code.into(),
                ..Self::new(
                    Cause::Exited,
                    format!("the container's program ended with {code}"),
                )
            },
            LaunchEnd::NoProgram(reason) => Self::new(Cause::NoPython, reason),
            LaunchEnd::Failed(cause, reason) => Self::new(cause, reason),
        }
    }
}

/// The end of a container that has not become ready and whose launch failed of its mount: whatever
/// its program said or did until that was known came of it.
pub(crate) fn without_image(end: End, launch: Option<&LaunchEnd>) -> End {
    match launch {
        Some(LaunchEnd::Failed(Cause::Mount, reason)) if end.cause != Cause::Stopped => {
            End::new(Cause::Mount, reason)
        }
        _ => end,
    }
}

/// The end of a container that has not become ready, with a registry in trouble behind its image:
/// what its program did, or did not do in time, is only how that showed.
pub(crate) fn explained(end: End, trouble: Option<Trouble>) -> End {
    let is_symptom = matches!(
        end.cause,
        Cause::Exited | Cause::StartTimeout | Cause::Machine | Cause::Mount
    );
    match trouble {
        Some(Trouble { cause, message }) if is_symptom => End {
            cause,
            reason: message,
            ..end
        },
        _ => end,
    }
}

/// A notice as a line of text.
pub(crate) fn line(log: &MountLog) -> String {
    let kind = log.kind.name();
    let message = log.message.replace(char::is_control, "\u{fffd}");
    format!("{kind}: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(kind: NoticeKind) -> MountLog {
        let message = format!("{kind:?}\n\u{1b}[31m");
        MountLog { kind, message }
    }

    fn cause_after(kinds: &[NoticeKind], end: LaunchEnd) -> Cause {
        let trouble = kinds
            .iter()
            .fold(None, |trouble, kind| Trouble::after(trouble, &log(*kind)));
        explained(end.into(), trouble).cause
    }

    #[test]
    fn a_registry_in_trouble_explains_an_end() {
        use NoticeKind::{CacheFull, Denied, Failed, Recovered, Waiting};
        let exited = LaunchEnd::Exited {
            code: 1,
            memory_note: None,
        };
        let table: &[(&[NoticeKind], Cause)] = &[
            (&[], Cause::Exited),
            (&[CacheFull], Cause::Exited),
            (&[Denied], Cause::Denied),
            (&[Denied, Failed], Cause::Denied),
            (&[Denied, Recovered], Cause::Exited),
            (&[Waiting], Cause::Mount),
            (&[Failed], Cause::Mount),
            (&[NoticeKind::Corrupt, Failed], Cause::Index),
        ];
        for (kinds, expected) in table {
            assert_eq!(cause_after(kinds, exited.clone()), *expected, "{kinds:?}");
        }
        let missing = LaunchEnd::NoProgram("no".to_owned());
        assert_eq!(cause_after(&[Denied], missing), Cause::NoPython);
    }

    #[test]
    fn a_lost_mount_explains_whatever_was_said_before() {
        let lost = LaunchEnd::Failed(Cause::Mount, "it is gone".to_owned());
        for (said, launch, expected) in [
            (Cause::SetupFailed, Some(&lost), Cause::Mount),
            (Cause::Malformed, Some(&lost), Cause::Mount),
            (Cause::Stopped, Some(&lost), Cause::Stopped),
            (Cause::SetupFailed, None, Cause::SetupFailed),
        ] {
            let end = without_image(End::new(said, "what was said"), launch);
            assert_eq!(end.cause, expected, "{said:?}");
        }
        let missing = LaunchEnd::NoProgram("no".to_owned());
        let end = without_image(End::new(Cause::SetupFailed, "raised"), Some(&missing));
        assert_eq!((end.cause, &*end.reason), (Cause::SetupFailed, "raised"));
    }

    #[test]
    fn ends_are_named() {
        let exited = |code, note: Option<&str>| LaunchEnd::Exited {
            code,
            memory_note: note.map(str::to_owned),
        };
        let end = End::from(exited(7, None));
        assert_eq!((end.cause, end.exit_code), (Cause::Exited, 7));
        assert_eq!(end.reason, "the container's program ended with 7");
        let end = End::from(exited(137, Some("out of memory")));
        assert_eq!((end.cause, end.exit_code), (Cause::OutOfMemory, 137));
        let long = End::new(Cause::Machine, "x".repeat(10_000));
        let message = long.message(Delivery::default());
        assert_eq!(message.reason.len(), MAX_REASON_CHARS);
    }

    #[test]
    fn notices_are_one_plain_line() {
        let line = line(&log(NoticeKind::CacheFull));
        assert_eq!(line, "cache full: CacheFull\u{fffd}\u{fffd}[31m");
    }
}
