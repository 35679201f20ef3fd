//! Layers as they lie in a store that many workers share and nobody has to trust: sealed, under
//! names that tell nothing, and so that any stretch can be opened by itself.
//!
//! ```text
//!   layer    0         16 KiB     32 KiB               size
//!            |  chunk 0  |  chunk 1  |  …  |  the last  |
//!   object   | sealed, tag 16 | sealed, tag 16 | … |
//!
//!   layer key = HKDF-SHA-256(ikm = secret, info = fields(domain, origin, digest))
//!   name      = v1/ HMAC-SHA-256(name key, fields(domain, origin, digest)), in hexadecimal
//!   chunk     = AES-256-GCM-SIV(layer key, nonce = number of the chunk,
//!                               aad = domain ‖ size of the layer)
//! ```
//!
//! What is sealed is the layer as its registry sends it, so that a stretch of it takes the place of
//! a stretch from there, and is verified as that is: by the index, once it is decoded. The cipher
//! keeps from the store what a private layer says, and from a reader what somebody else has put
//! there.
//!
//! A key opens one layer of one origin, and each of its nonces seals one chunk. Should other bytes
//! be sealed under it for once (a registry may send what does not have the digest, which is found
//! at its end), this cipher tells no more than whether two chunks are the same.
//!
//! Deliberately knows no store, no network and no index.

mod chunks;
mod key;
mod opening;
mod sealing;

pub use chunks::sealed_size;
pub use key::{CacheSecret, LayerKey};
pub use opening::{Opening, UnsealError};
pub use sealing::{Sealing, WrongSize};
