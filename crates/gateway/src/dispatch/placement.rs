//! Which worker gets a container. Pure: facts in, a choice out.

use std::cmp::Reverse;

/// What a container takes of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Needs {
    pub(super) cpu_millicores: u32,
    pub(super) memory_bytes: u64,
}

/// What there is of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) total: Needs,
    pub(super) used: Needs,
    /// It has run the image, so that some of it is in its cache.
    pub(super) has_image: bool,
    pub(super) is_draining: bool,
}

impl Candidate {
    fn has_room(&self, needs: Needs) -> bool {
        self.free_cpu() >= needs.cpu_millicores && self.free_memory() >= needs.memory_bytes
    }

    pub(super) fn free_cpu(&self) -> u32 {
        let total = self.total.cpu_millicores;
        total.saturating_sub(self.used.cpu_millicores)
    }

    pub(super) fn free_memory(&self) -> u64 {
        self.total
            .memory_bytes
            .saturating_sub(self.used.memory_bytes)
    }
}

/// The place of the best worker that has room now: one that knows the image first, then the one
/// with the most memory free.
pub(super) fn choose(workers: &[Candidate], needs: Needs) -> Option<usize> {
    let fit = |(_, worker): &(usize, &Candidate)| !worker.is_draining && worker.has_room(needs);
    let best = workers.iter().enumerate().filter(fit);
    best.max_by_key(|(at, worker)| (worker.has_image, worker.free_memory(), Reverse(*at)))
        .map(|(at, _)| at)
}

/// Whether any of these workers would have room if nothing else ran.
pub(super) fn could_ever_fit(workers: &[Candidate], needs: Needs) -> bool {
    workers.iter().any(|worker| {
        let empty = Candidate {
            used: Needs::default(),
            ..*worker
        };
        empty.has_room(needs)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(cpu: [u32; 2], memory: [u64; 2]) -> Candidate {
        let needs = |at: usize| Needs {
            cpu_millicores: cpu[at],
            memory_bytes: memory[at],
        };
        Candidate {
            total: needs(1),
            used: needs(0),
            has_image: false,
            is_draining: false,
        }
    }

    #[test]
    fn containers_go_where_there_is_room_and_the_image() {
        let needs = Needs {
            cpu_millicores: 500,
            memory_bytes: 100,
        };
        let roomy = worker([0, 4000], [0, 1000]);
        let small = worker([0, 1000], [0, 200]);
        let knows = Candidate {
            has_image: true,
            ..small
        };
        let draining = Candidate {
            is_draining: true,
            ..roomy
        };
        let table = [
            (vec![], None),
            (vec![small, roomy], Some(1)),
            (vec![roomy, knows], Some(1)),
            (vec![draining], None),
            (vec![worker([600, 1000], [0, 1000])], None),
            (vec![worker([0, 1000], [901, 1000])], None),
            (vec![worker([500, 1000], [900, 1000])], Some(0)),
            (vec![roomy, roomy], Some(0)),
        ];
        for (workers, expected) in table {
            assert_eq!(choose(&workers, needs), expected, "{workers:?}");
        }
        assert!(could_ever_fit(&[worker([999, 1000], [999, 1000])], needs));
        assert!(!could_ever_fit(&[worker([0, 499], [0, 1000])], needs));
        assert!(!could_ever_fit(&[], needs));
    }
}
