//! An issuer of identity tokens, as clouds know one: whose URL is in a token, whose documents say
//! by which keys it signs, and who says of a workspace that it is itself.
//!
//! ```text
//!   issuer URL ── /.well-known/openid-configuration ──▶ where the keys are
//!              └─ /.well-known/jwks.json ────────────▶ next key, current key, former keys
//!
//!   key:   next (published, never signed) ─▶ current (signs) ─▶ former (published) ─▶ gone
//!   token: {iss: URL, sub: workspace:ws-…, aud: one cloud's, ten minutes} signed by the current
//! ```
//!
//! Invariants: a key is published for [`PUBLISHED_BEFORE`] before it signs, unless somebody says
//! that it may not wait, and for [`PUBLISHED_AFTER`] once it has signed its last token; a token is
//! for one workspace and one audience; a private key has no form but the sealed one. Which key
//! signs does not depend on the clock. Deliberately no storage and no transport.

mod documents;
mod issuer_url;
mod key_set;
mod rsa_key;
mod sealed_form;
mod subject;
mod token;

pub use documents::{CONFIGURATION_PATH, KEYS_PATH, MAX_AGE, configuration};
pub use issuer_url::{IssuerUrl, ParseIssuerUrlError};
pub use key_set::{
    KeyRow, KeySet, KeyState, PUBLISHED_AFTER, PUBLISHED_BEFORE, PublicKeys, REPLACED_AFTER,
    TooEarly,
};
pub use rsa_key::{NoKey, RsaKey};
pub use sealed_form::NoKeySet;
pub use subject::{external_id, subject};
pub use token::{TOKEN_LIFE, sign};
