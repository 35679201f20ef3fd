//! Who a machine of ours is to another: a key pair, and TLS between two that know each other's.
//!
//! ```text
//!   worker                                     gateway
//!     key pair ── TLS 1.3, raw public keys ──▶ key pair
//!     accepts the key of its pin, no other     is told the worker's, and decides by it
//!          ▲                                        │
//!          └───── join token: secret and pin ───────┘   carried by a person, used once
//! ```
//!
//! As with SSH, a key is the identity: both sides prove that they hold theirs (RFC 7250), and there
//! is no certificate, so no name, no date, no authority and no parser of them. Invariants: Ed25519
//! and TLS 1.3 alone; whoever has no key gets no connection; a handshake has an end in time; a
//! private key is in a file of its owner's alone. Deliberately no word on which keys are welcome.

mod join_token;
mod key;
mod tls;

pub use join_token::{JoinToken, JoinTokenHash};
pub use key::{Fingerprint, IdentityError, KeyPair};
pub use tls::{Acceptor, ConnectedStream, Connector, HandshakeError, PeerStream};
