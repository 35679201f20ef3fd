//! Root keys in services, as the vault uses them: AWS KMS against `moto`, transit against a service
//! that speaks its documented wire, and what goes wrong against services that do as they are told.

mod contract;
mod kms;
mod support;
mod transit;
