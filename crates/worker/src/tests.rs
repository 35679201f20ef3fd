//! The worker against a control plane that is played, over a real connection. Its machine starts
//! the real runner as a plain process, or has the test play that too.

mod calls;
mod control_plane;
mod hostile;
mod indexes;
mod lives;
mod machines;
pub(crate) mod starts;
mod traces;
mod warming;
