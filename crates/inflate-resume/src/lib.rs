//! Decoding a gzip stream from the middle.

/// How far back deflate can refer.
pub const WINDOW_SIZE: usize = 32 * 1024;
