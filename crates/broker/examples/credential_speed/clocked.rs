//! Callers at once, each with one question at a time, and what their times come to.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{Failure, Outcome};

/// How many callers there are, and how often each of them asks.
#[derive(Clone, Copy)]
pub(crate) struct Callers {
    pub(crate) count: usize,
    pub(crate) questions_of_each: usize,
}

impl Callers {
    pub(crate) const fn new(count: usize, questions_of_each: usize) -> Self {
        Self {
            count,
            questions_of_each,
        }
    }
}

/// Asks, with a number that no other question of this call has: `{per_second, p99_micros}`.
pub(crate) async fn pace<W, F>(callers: Callers, ask: W) -> Outcome<Value>
where
    W: Fn(usize) -> F + Clone + Send + 'static,
    F: Future<Output = Outcome<()>> + Send,
{
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers.count {
        let ask = ask.clone();
        tasks.spawn(async move {
            let mut times = Vec::with_capacity(callers.questions_of_each);
            for question in 0..callers.questions_of_each {
                let begun = Instant::now();
                ask(caller * callers.questions_of_each + question).await?;
                times.push(begun.elapsed());
            }
            Ok::<_, Failure>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        times.extend(ended??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let count = f64::from(u32::try_from(times.len())?);
    Ok(json!({ "per_second": count / seconds, "p99_micros": p99_micros(times) }))
}

pub(crate) fn p99_micros(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let at = (times.len() * 99).div_ceil(100).saturating_sub(1);
    times
        .get(at)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}
