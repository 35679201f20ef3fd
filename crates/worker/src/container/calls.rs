//! The calls that a container has, in the order in which they were given: what a result is held
//! against, and whose the output is that a program writes. Pure.

use std::collections::VecDeque;

use crate::runner::messages::{CallEnd, Malformed, Nonce};

/// Calls without a result. The control plane keeps within the container's concurrency; more than
/// this is one that has gone wrong.
const MAX_CALLS: usize = 2048;

/// A call that cannot be taken. Completes "the control plane sent a call …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    #[error("before the container was ready")]
    Early,
    #[error("that makes no sense")]
    Meaningless,
    #[error("of an attempt that runs already")]
    Twice,
    #[error("too many")]
    TooMany,
}

#[derive(Debug)]
struct Given {
    attempt: String,
    nonce: Nonce,
    is_cancelled: bool,
}

/// Calls without a result.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    given: VecDeque<Given>,
}

impl Calls {
    pub(crate) fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    pub(crate) fn give(&mut self, attempt: String, nonce: Nonce) -> Result<(), CallError> {
        if self.knows(&attempt) {
            return Err(CallError::Twice);
        }
        if self.given.len() >= MAX_CALLS {
            return Err(CallError::TooMany);
        }
        self.given.push_back(Given {
            attempt,
            nonce,
            is_cancelled: false,
        });
        Ok(())
    }

    /// Says whether there is something to cancel that has not been yet: the runner is asked once.
    pub(crate) fn cancel(&mut self, attempt: &str) -> bool {
        let given = self.given.iter_mut().find(|call| call.attempt == attempt);
        given.is_some_and(|call| !std::mem::replace(&mut call.is_cancelled, true))
    }

    /// Takes a result for one of the calls.
    pub(crate) fn finish(&mut self, end: &CallEnd) -> Result<(), Malformed> {
        let place = self
            .given
            .iter()
            .position(|call| call.attempt == end.attempt);
        let place = place.ok_or(Malformed::Message("a result of no call"))?;
        if self.given[place].nonce != end.nonce {
            return Err(Malformed::Message(
                "a result with another nonce than its call",
            ));
        }
        self.given.remove(place);
        Ok(())
    }

    pub(crate) fn knows(&self, attempt: &str) -> bool {
        self.given.iter().any(|call| call.attempt == attempt)
    }

    /// Whose the output is while calls run one after the other.
    pub(crate) fn first(&self) -> &str {
        self.given.front().map_or("", |call| &call.attempt)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::runner::messages::Outcome;

    fn end(attempt: &str, nonce: u8) -> CallEnd {
        CallEnd {
            attempt: attempt.to_owned(),
            nonce: Nonce([nonce; 16]),
            outcome: Outcome::Returned,
            exception: None,
            payload: Bytes::new(),
        }
    }

    #[test]
    fn a_result_belongs_to_a_call_and_there_is_one() {
        let mut calls = Calls::default();
        for (attempt, nonce) in [("a/1", 1), ("b/1", 2)] {
            calls.give(attempt.to_owned(), Nonce([nonce; 16])).unwrap();
        }
        let twice = calls.give("a/1".to_owned(), Nonce([9; 16]));
        assert_eq!(twice, Err(CallError::Twice));
        assert_eq!(calls.first(), "a/1");
        assert!(calls.finish(&end("c/1", 1)).is_err(), "never given");
        assert!(calls.finish(&end("a/1", 2)).is_err(), "another's nonce");
        assert!(calls.finish(&end("a/1", 1)).is_ok());
        assert!(calls.finish(&end("a/1", 1)).is_err(), "a second result");
        assert_eq!(calls.first(), "b/1");
        assert!(calls.finish(&end("b/1", 2)).is_ok());
        assert!(calls.is_empty() && calls.first().is_empty());
    }

    #[test]
    fn a_call_is_cancelled_once() {
        let mut calls = Calls::default();
        calls.give("a/1".to_owned(), Nonce([1; 16])).unwrap();
        assert!(calls.cancel("a/1"));
        assert!(!calls.cancel("a/1") && !calls.cancel("b/1"));
    }

    #[test]
    fn calls_have_a_limit() {
        let mut calls = Calls::default();
        for number in 0..MAX_CALLS {
            calls.give(number.to_string(), Nonce([0; 16])).unwrap();
        }
        let more = calls.give("more".to_owned(), Nonce([0; 16]));
        assert_eq!(more, Err(CallError::TooMany));
    }
}
