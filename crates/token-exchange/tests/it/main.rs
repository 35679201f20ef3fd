//! The exchange against a registry that misbehaves and against Debian's.

mod azure;
mod check;
mod cloud;
mod contract;
mod debian;
mod ecr;
mod google;
mod midway;
mod moto;
mod node;
mod quirks;
mod realms;
mod role;
mod secrecy;
mod support;
mod tokens;
mod young;
