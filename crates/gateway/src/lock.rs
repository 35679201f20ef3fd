//! Locks that a panic leaves usable: one request's panic is that request's error.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is held here is changed in single steps, so that a panic between two leaves it whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
