//! The vault as its users see it: several processes, damage of every sort, crashes, time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod audit;
mod backup;
mod canaries;
mod crash;
mod fake_service;
mod full_disk;
mod in_clear;
mod keeper;
mod key_service;
mod leases;
mod opening;
mod role;
mod rotation;
mod rotation_load;
mod secrets;
mod server;
mod shred;
mod support;
mod tamper;
mod tamper_bytes;

use vault as vault_api;
