//! Where the time of a start goes: named phases, which may overlap.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One phase, from the beginning of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    pub name: &'static str,
    pub start: Duration,
    pub took: Duration,
}

/// Phases as they end.
#[derive(Debug)]
pub struct Waterfall {
    begun: Instant,
    phases: Mutex<Vec<Phase>>,
}

impl Waterfall {
    /// Time counts from here.
    pub fn begin() -> Self {
        Self {
            begun: Instant::now(),
            phases: Mutex::default(),
        }
    }

    /// Awaits `work` as a phase. It is large, as a phase is, and no part of the caller's future.
    pub fn measure<T>(
        &self,
        name: &'static str,
        work: impl Future<Output = T>,
    ) -> impl Future<Output = T> {
        let work = Box::pin(work);
        async move {
            let start = self.begun.elapsed();
            let result = work.await;
            let took = self.begun.elapsed().saturating_sub(start);
            let mut phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
            phases.push(Phase { name, start, took });
            result
        }
    }

    /// The phases so far, in the order in which they began.
    pub fn phases(&self) -> Vec<Phase> {
        let mut phases = self
            .phases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        phases.sort_by_key(|phase| phase.start);
        phases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_stand_in_the_order_of_their_beginning() {
        let waterfall = Waterfall::begin();
        let outer = waterfall.measure("outer", async {
            waterfall.measure("inner", async {}).await;
        });
        outer.await;
        let names: Vec<_> = waterfall.phases().iter().map(|phase| phase.name).collect();
        assert_eq!(names, ["outer", "inner"]);
    }
}
