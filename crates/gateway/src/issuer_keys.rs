//! Looking after the key that the issuer signs with, for as long as a gateway runs: one that is old
//! is replaced, or told of once where people have to.

use std::time::Duration;

use broker::{KeyLook, KeyReplacement, WhyLeft};

use crate::gateway::Gateway;

/// How often it is looked. A key is old after months, and its age is a metric.
const ROUND: Duration = Duration::from_hours(1);

/// Until the first look, in which a gateway that has just started has better to do, and whoever
/// asks for the documents may have asked.
const FIRST_ROUND: Duration = Duration::from_mins(5);

const DAY: Duration = Duration::from_hours(24);

/// Ends with its task alone.
pub(crate) async fn look_after_issuer_key(gateway: Gateway) {
    let mut told = None;
    tokio::time::sleep(FIRST_ROUND).await;
    loop {
        match gateway.broker().replace_old_issuer_key().await {
            Ok(look) => {
                gateway.metrics().issuer_key(look.age);
                told = tell(&look, told);
            }
            Err(error) => tracing::warn!(%error, "the issuer's keys could not be looked after"),
        }
        tokio::time::sleep(ROUND).await;
    }
}

/// Says what was not said; answers what is left to people.
fn tell(look: &KeyLook, told: Option<WhyLeft>) -> Option<WhyLeft> {
    let days = look.age.unwrap_or_default().as_secs() / DAY.as_secs();
    match look.replacement {
        KeyReplacement::NotDue => None,
        KeyReplacement::Replaced => {
            tracing::info!("the key that the issuer signs with was old: the next one signs now");
            None
        }
        KeyReplacement::LeftToPeople(why) if told == Some(why) => told,
        KeyReplacement::LeftToPeople(why) => {
            let why_left = words(why);
            tracing::warn!(days, why_left, "the key that the issuer signs with is old");
            Some(why)
        }
    }
}

fn words(why: WhyLeft) -> &'static str {
    match why {
        WhyLeft::Exported(_) => {
            "its documents were exported: `holdfast issuer rotate`, then `holdfast issuer export`; \
             `holdfast issuer withdraw` where this gateway publishes them"
        }
        WhyLeft::NobodyAsks => {
            "nobody has asked this gateway for the issuer's documents since it started: have the \
             issuer's URL lead here, or rotate by `holdfast issuer rotate`"
        }
        WhyLeft::NextIsYoung => "the next key has not been published for a day",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_to_people_is_told_once() {
        let look = |replacement| KeyLook {
            age: Some(DAY * 100),
            replacement,
        };
        let left = look(KeyReplacement::LeftToPeople(WhyLeft::NobodyAsks));
        let told = tell(&left, None);
        assert_eq!(told, Some(WhyLeft::NobodyAsks));
        assert_eq!(tell(&left, told), told);
        let young = look(KeyReplacement::LeftToPeople(WhyLeft::NextIsYoung));
        assert_eq!(tell(&young, told), Some(WhyLeft::NextIsYoung));
        // Once it is over it is news again.
        assert_eq!(tell(&look(KeyReplacement::Replaced), told), None);
    }
}
