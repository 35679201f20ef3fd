//! The closing table of a run: one line for each target, and where its findings are.

use super::campaign::Outcome;

pub(super) fn print(outcomes: &[Outcome]) {
    println!(
        "\n{:<12} {:>12} {:>9} {:>9} {:>13} {:>8} {:>9}",
        "target", "executions", "cpu s", "coverage", "new coverage", "peak MB", "findings"
    );
    for outcome in outcomes {
        let counted = outcome.counted;
        println!(
            "{:<12} {:>12} {:>9} {:>9} {:>13} {:>8} {:>9}",
            outcome.target,
            counted.executions,
            outcome.cpu_seconds,
            counted.coverage,
            counted.coverage.saturating_sub(counted.coverage_before),
            counted.peak_memory_mb,
            outcome.findings.len()
        );
    }
    for path in outcomes.iter().flat_map(|outcome| &outcome.findings) {
        println!("finding: {}", path.display());
    }
}
