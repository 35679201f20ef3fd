//! What the crate promises, through its public face.

mod golden;
mod properties;
