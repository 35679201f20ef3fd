//! Errors on their way across the control socket, as one line.

use std::error::Error;

/// The error and what caused it.
pub(crate) fn in_one_line(error: &dyn Error) -> String {
    let cause = error.source().map(in_one_line);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}
