//! Services of AWS by their real names: `moto`, which many hold their programs against, and
//! `registry-sim`, which is as strict as AWS.

mod buckets;
mod kms;
mod sessions;
