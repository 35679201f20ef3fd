//! `cargo xtask bench calls`: warm calls, calls a second, and cold calls, beside Ray and Celery.
//!
//! Ours are as in production: accepted durably, run in a container, and told by events. Every
//! contender is a Python program that makes its calls when it is told to (`calls/*.py`).

mod cold;
mod gateway;
mod http;
mod load;
mod peers;
mod program;
mod throughput;
mod warm;

use super::Part;
use super::lab::Lab;

pub(super) const PARTS: &[Part<Lab>] = &[
    ("warm", warm::rows),
    ("throughput", throughput::rows),
    ("cold", cold::rows),
];
