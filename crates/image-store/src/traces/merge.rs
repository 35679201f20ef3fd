//! Several runs to one forecast. Pure.

use std::collections::{BTreeMap, HashSet};

use super::Touch;

/// Spans that at least half of the runs touched, in the order of the median of their first times.
pub(super) fn merge(runs: &[Vec<Touch>]) -> Vec<Touch> {
    let mut times: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
    for run in runs {
        let mut seen = HashSet::new();
        for touch in run {
            let span = (touch.layer, touch.span);
            if seen.insert(span) {
                times.entry(span).or_default().push(touch.at_ms);
            }
        }
    }
    let usual = times
        .into_iter()
        .filter(|(_, times)| times.len() * 2 >= runs.len());
    let mut merged: Vec<Touch> = usual
        .map(|((layer, span), times)| Touch {
            layer,
            span,
            at_ms: median(times),
        })
        .collect();
    merged.sort_by_key(|touch| touch.at_ms);
    merged
}

/// The lower one where there are two.
fn median(mut times: Vec<u32>) -> u32 {
    times.sort_unstable();
    let middle = times.len().saturating_sub(1) / 2;
    times.get(middle).copied().unwrap_or_default()
}

/// A run of which more than one span in so many was not foretold, or not touched, is news. The
/// kernel reads ahead by its own clock, so that no two runs touch quite the same.
const NEWS: usize = 16;

/// Whether a run touched what was foretold, and little else.
pub(super) fn foretells(forecast: &[Touch], run: &[Touch]) -> bool {
    let spans = |touches: &[Touch]| -> HashSet<(u32, u32)> {
        let spans = touches.iter().map(|touch| (touch.layer, touch.span));
        spans.collect()
    };
    let (forecast, run) = (spans(forecast), spans(run));
    forecast.symmetric_difference(&run).count() * NEWS <= forecast.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(touches: &[(u32, u32)]) -> Vec<Touch> {
        let touch = |(span, at_ms): &(u32, u32)| Touch {
            layer: span / 100,
            span: span % 100,
            at_ms: *at_ms,
        };
        touches.iter().map(touch).collect()
    }

    #[test]
    fn what_most_runs_touched_in_their_order() {
        /// Name, runs as (100 × layer + span, time), what is foretold.
        type Case<'a> = (&'a str, &'a [&'a [(u32, u32)]], &'a [(u32, u32)]);
        let cases: &[Case] = &[
            ("nothing", &[], &[]),
            (
                "one run",
                &[&[(7, 1), (103, 2), (5, 3)]],
                &[(7, 1), (103, 2), (5, 3)],
            ),
            (
                "of two runs all",
                &[&[(7, 1), (5, 9)], &[(7, 3), (6, 2)]],
                &[(7, 1), (6, 2), (5, 9)],
            ),
            (
                "what one of three did is chance",
                &[&[(7, 1), (5, 9)], &[(7, 30), (6, 2)], &[(7, 3)]],
                &[(7, 3)],
            ),
            (
                "one odd order changes nothing",
                &[&[(1, 1), (2, 5)], &[(1, 2), (2, 4)], &[(2, 0), (1, 99)]],
                &[(1, 2), (2, 4)],
            ),
            (
                "a span twice in a run counts once",
                &[&[(1, 5), (1, 0), (1, 0)], &[(2, 1)], &[(2, 1)]],
                &[(2, 1)],
            ),
            (
                "at the same time by their place",
                &[&[(101, 1), (2, 1), (1, 1)]],
                &[(1, 1), (2, 1), (101, 1)],
            ),
        ];
        for (name, runs, expected) in cases {
            let runs: Vec<_> = runs.iter().map(|touches| run(touches)).collect();
            assert_eq!(merge(&runs), run(expected), "{name}");
        }
    }

    #[test]
    fn a_run_is_foretold_or_not() {
        let forecast = run(&[(1, 1), (2, 2)]);
        assert!(foretells(&forecast, &run(&[(2, 0), (1, 7)])));
        assert!(!foretells(&forecast, &run(&[(1, 1)])));
        assert!(!foretells(&forecast, &run(&[(1, 1), (2, 2), (3, 3)])));
        assert!(!foretells(&[], &forecast));
        let many: Vec<_> = (0..32).map(|span| (span, span)).collect();
        let (forecast, more) = (run(&many), [&many[..], &[(90, 1), (91, 1)]].concat());
        assert!(foretells(&forecast, &run(&many[2..])) && foretells(&forecast, &run(&more)));
        assert!(!foretells(&forecast, &run(&more[1..])));
    }
}
