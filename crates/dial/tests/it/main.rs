//! The way out against servers that are not what one would wish.

mod limits;
mod policy;
mod proxy;
mod raw;
mod silence;
