//! The real binary against a real registry, as a user would.

mod bad_input;
mod canaries;
mod ending;
mod json;
mod patience;
mod run;
mod support;
