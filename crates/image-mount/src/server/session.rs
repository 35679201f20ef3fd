//! Answering the kernel on a device that is mounted already.

use std::io;
use std::os::fd::OwnedFd;

use fuser::{Config, Session, SessionACL};

use crate::filesystem::Adaptor;

/// Threads that read requests. More than four gained nothing in measurements, and one leaves a
/// core idle.
const MAX_THREADS: usize = 4;
const MIN_THREADS: usize = 2;

/// Agrees with the kernel on what both can do, and answers requests on threads of their own until
/// the mount is gone. `ended` hears of that.
pub(super) fn serve(
    adaptor: Adaptor,
    device: OwnedFd,
    ended: impl FnOnce(io::Result<()>) + Send + 'static,
) -> io::Result<()> {
    let mut config = Config::default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    config.n_threads = Some(cores.clamp(MIN_THREADS, MAX_THREADS));
    let session = Session::from_fd(adaptor, device, SessionACL::All, config)?;
    std::thread::Builder::new()
        .name("fuse".to_owned())
        .spawn(move || ended(session.run()))
        .map(drop)
}
