//! AWS as a client: one request to one of its services, signed, sent, and its refusal told; the
//! sessions of roles, whose keys sign further ones; keys of KMS, which wrap others; and buckets of
//! objects, also of stores that are not AWS's and speak as S3 does.
//!
//! Invariants: a secret key signs and is never sent; keys are those that were handed in, and none
//! are looked for; hosts come from who asks, who has them from a table; what a refusal repeats of
//! its request is not shown. Knows no registries, and keeps nothing between two requests.

mod bucket;
mod error;
mod exchange;
mod keys;
mod kms;
mod operation;
mod refusal;
mod signature;
mod sts;
mod xml;

pub use bucket::{Bucket, BucketError, ObjectKey, Part, Style, Upload};
pub use error::AwsError;
pub use exchange::Clock;
pub use keys::Keys;
pub use kms::Kms;
pub use operation::{Answer, Input, Operation};
pub use sts::{Role, Session, Sts};
