//! The client against a registry that misbehaves and against Debian's.

mod auth;
mod blobs;
mod debian;
mod flows;
mod locations;
mod manifests;
mod patience;
mod redirects;
mod support;
mod through;
mod tls;
