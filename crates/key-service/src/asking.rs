//! How a service is asked: by which way, how long and how often.

use std::path::Path;
use std::time::Duration;

use dial::{AddressPolicy, DialPolicy, Dialer, HttpClient, Limits, TlsProfile};
use vault::KeyServiceError;

use crate::source::{SourceError, authorities};

/// An answer takes some milliseconds, and seconds where the service itself waits for a disk or for
/// another machine.
const HEAD_TIMEOUT: Duration = Duration::from_secs(8);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For an answer and those that are asked for again. Other processes wait as long as a minute for
/// one that opens the vault, and people less.
const PATIENCE: Duration = Duration::from_secs(20);
/// A connection that was just being closed, or a service that limits its callers, is over with the
/// second or third try; what is not is an outage.
const TRIES: u32 = 3;
/// Before the second try; twice as long before the third, and up to as much again by chance, so
/// that those who were limited together do not come back together.
const PAUSE: Duration = Duration::from_millis(200);

/// The way to an operator's own service, of this section of the configuration: it may be on a
/// private network, and have an authority of its own.
pub(crate) fn client(
    section: &'static str,
    operator: &DialPolicy,
    ca_file: Option<&Path>,
    addresses: &AddressPolicy,
) -> Result<HttpClient, SourceError> {
    let policy = DialPolicy {
        users_may_name_private: true,
        limits: Limits {
            connect: CONNECT_TIMEOUT,
            head: HEAD_TIMEOUT,
            silence: HEAD_TIMEOUT,
            idle: HEAD_TIMEOUT,
            bounded_body: HEAD_TIMEOUT,
        },
        ..operator.clone()
    };
    let tls = TlsProfile {
        extra_ca_pem: authorities(section, ca_file)?,
        plain_http: false,
    };
    let http = Dialer::new(policy).client(&tls, addresses);
    http.map_err(|error| SourceError::Settings {
        section,
        problem: error.to_string(),
    })
}

/// Asks, and again where that may help.
pub(crate) async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, KeyServiceError>
where
    F: Future<Output = Result<T, KeyServiceError>>,
{
    let asking = async {
        for attempt in 1..TRIES {
            match ask().await {
                Err(error) if error.is_transient() => {
                    let pause = PAUSE * attempt;
                    tokio::time::sleep(pause.mul_f64(1.0 + fastrand::f64())).await;
                }
                answer => return answer,
            }
        }
        ask().await
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(KeyServiceError::Unreachable {
            message: "the key service does not answer in time".to_owned(),
        }),
    }
}

/// Reads files on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn away() -> KeyServiceError {
        KeyServiceError::Unreachable {
            message: "away".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_asked_again_a_few_times_and_nothing_else() {
        let message = String::new();
        let denied = KeyServiceError::Denied { message };
        for (answers, tries, is_told) in [
            (vec![None], 1, false),
            (vec![Some(away()), None], 2, false),
            (vec![Some(away()), Some(away()), None], 3, false),
            (vec![Some(away()); 5], TRIES, true),
            (vec![Some(denied.clone()), None], 1, true),
        ] {
            let asked = AtomicU32::new(0);
            let answer = patiently(|| {
                let next = asked.fetch_add(1, Ordering::Relaxed);
                std::future::ready(answers[next as usize].clone().map_or(Ok(()), Err))
            });
            assert_eq!(answer.await.is_err(), is_told, "{answers:?}");
            assert_eq!(asked.into_inner(), tries, "{answers:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_without_end() {
        let began = tokio::time::Instant::now();
        let answer: Result<(), _> = patiently(std::future::pending).await;
        assert!(matches!(answer, Err(KeyServiceError::Unreachable { .. })));
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
    }
}
