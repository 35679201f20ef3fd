//! Registry credentials as values: kinds, detection, scopes, names, stored form.
//!
//! Pure: no I/O and no process environment. Every secret is a [`SecretString`]: redacted in
//! `Debug`, neither displayed nor serialised except in the explicit stored form.

pub mod auth;

pub use secrecy::{ExposeSecret, SecretString};
