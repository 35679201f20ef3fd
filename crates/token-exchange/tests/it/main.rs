//! The exchange against a registry that misbehaves and against Debian's.

mod check;
mod debian;
mod ecr;
mod realms;
mod secrecy;
mod support;
mod tokens;
