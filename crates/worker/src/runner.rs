//! The runner's side of a container: what crosses its socket, and that nothing else does.
//!
//! The other end belongs to user code as much as to the runner, so whatever it sends is bounded,
//! parsed and never unpickled. `runner/PROTOCOL.md` is the protocol.

pub(crate) mod messages;
pub(crate) mod wire;

/// The runner's archive, as a container finds it.
pub(crate) const ARCHIVE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/runner.pyz"));

#[cfg(test)]
mod tests {
    use super::ARCHIVE;

    #[test]
    fn the_archive_holds_the_runner() {
        let listed = |name: &str| ARCHIVE.windows(name.len()).any(|at| at == name.as_bytes());
        for name in [
            "__main__.py",
            "holdfast_runner/start.py",
            "cloudpickle/LICENSE",
        ] {
            assert!(listed(name), "{name}");
        }
        assert!(!listed("__pycache__") && !listed(".pyc"));
    }
}
