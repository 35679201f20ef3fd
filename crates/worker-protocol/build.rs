//! Makes Rust of `proto`, without protoc.

use std::error::Error;

/// Messages whose `Debug` is written in `src/redacted.rs`, since they carry what logs must not.
const REDACTED: &[&str] = &[
    "holdfast.worker.v1.Setup",
    "holdfast.worker.v1.Call",
    "holdfast.worker.v1.CallResult",
    "holdfast.worker.v1.Output",
    "holdfast.worker.v1.Exception",
    "holdfast.worker.v1.Ended",
    "holdfast.worker.v1.CodePiece",
    "holdfast.worker.v1.IndexPiece",
    "holdfast.worker.v1.ReadPiece",
    "holdfast.worker.v1.JoinQuestion",
    "holdfast.worker.v1.RegistryAuth",
    "holdfast.worker.v1.BlobLocation",
    "holdfast.worker.v1.SharedLayer",
    "holdfast.worker.v1.Basic",
    "holdfast.worker.v1.Stamp",
    "holdfast.worker.v1.Trace",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["worker.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .btree_map(".")
        .bytes(".")
        .skip_debug(REDACTED)
        .compile_fds(descriptors)?;
    Ok(())
}
