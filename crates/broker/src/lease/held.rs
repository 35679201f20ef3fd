//! The auth that a lease holds, so that it need not open its secret to answer.

use std::time::Duration;

use credential::auth::{AuthScheme, RegistryAuth, Rejection};
use jiff::Timestamp;
use token_exchange::Vended;

/// Time for the request that carries a token to arrive; at most half of what is left at minting.
const MARGIN: Duration = Duration::from_secs(10);
/// How long something that names no end is held. A password is then read from the vault anew.
const ENDLESS_HOLD: Duration = Duration::from_mins(5);

/// What was minted last, from the current version.
#[derive(Default)]
pub(super) struct Held {
    vended: Option<Vended>,
    since: Timestamp,
    until: Timestamp,
    /// The serial that was given out last, also after it was refused.
    serial: Option<u64>,
}

impl Held {
    /// The held auth, unless it nears its end, the clock was set back since it came, or it is what
    /// the registry has refused.
    pub(super) fn answer(&self, rejected: Option<&Rejection>, now: Timestamp) -> Option<Vended> {
        let is_good = self.since <= now && now < self.until;
        let vended = self.vended.as_ref().filter(|_| is_good)?;
        let refused = rejected.is_some_and(|rejection| rejection.serial == vended.auth.serial);
        (!refused).then(|| vended.clone())
    }

    /// The refusal, when it is of what this version gave: one of an earlier version says nothing
    /// about this one.
    pub(super) fn own(&mut self, rejected: Option<Rejection>) -> Option<Rejection> {
        let own = rejected.filter(|rejection| Some(rejection.serial) == self.serial);
        if own.is_some() {
            self.vended = None;
        }
        own
    }

    pub(super) fn keep(&mut self, vended: &Vended, now: Timestamp) {
        self.serial = Some(vended.auth.serial);
        self.since = now;
        self.until = hold_until(&vended.auth, now);
        self.vended = Some(vended.clone());
    }
}

fn hold_until(auth: &RegistryAuth, now: Timestamp) -> Timestamp {
    let later = |time: Duration| now.checked_add(time).unwrap_or(Timestamp::MAX);
    let Some(end) = auth.not_after else {
        return later(ENDLESS_HOLD);
    };
    let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
    let until = later(left.saturating_sub(MARGIN.min(left / 2)));
    match auth.scheme {
        AuthScheme::Bearer(_) => until,
        AuthScheme::Basic { .. } | AuthScheme::Anonymous => until.min(later(ENDLESS_HOLD)),
    }
}

#[cfg(test)]
mod tests {
    use credential::SecretString;
    use token_exchange::Rung;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn bearer(serial: u64, end: Option<i64>) -> Vended {
        let auth = RegistryAuth {
            scheme: AuthScheme::Bearer(SecretString::from("token".to_owned())),
            not_after: end.map(at),
            serial,
        };
        Vended {
            auth,
            rung: Rung::RepositoryBearer,
        }
    }

    fn refusal(serial: u64) -> Rejection {
        Rejection {
            serial,
            status: 401,
            challenges: Vec::new(),
            says_expired: false,
            is_hearsay: false,
        }
    }

    #[test]
    fn tokens_are_held_until_shortly_before_their_end() {
        for (end, now, held) in [
            (Some(300), 0, true),
            (Some(300), 289, true),
            (Some(300), 290, false),
            (Some(300), 400, false),
            (Some(2), 0, true),
            (Some(2), 1, false),
            (Some(0), 0, false),
            (Some(-5), 0, false),
            (None, 299, true),
            (None, 300, false),
            // A clock that was set back knows nothing of the end.
            (Some(300), -1, false),
            (None, -86_400, false),
        ] {
            let mut holder = Held::default();
            holder.keep(&bearer(7, end), at(0));
            let answer = holder.answer(None, at(now));
            assert_eq!(answer.is_some(), held, "end {end:?} now {now}");
        }
    }

    #[test]
    fn only_what_was_refused_is_given_up() {
        let mut held = Held::default();
        assert!(
            held.own(Some(refusal(1))).is_none(),
            "nothing was given yet"
        );
        held.keep(&bearer(7, Some(300)), at(0));
        assert!(
            held.answer(Some(&refusal(6)), at(0)).is_some(),
            "of an earlier minting"
        );
        assert!(held.answer(Some(&refusal(7)), at(0)).is_none());
        assert!(held.own(Some(refusal(6))).is_none());
        assert_eq!(held.own(Some(refusal(7))).map(|own| own.serial), Some(7));
        assert!(held.answer(None, at(0)).is_none(), "refused means dropped");
        assert!(held.own(Some(refusal(7))).is_some(), "refused again");
    }
}
