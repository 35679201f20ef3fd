//! Makes Rust of `proto`, without protoc, and keeps what the .proto files say for the tests.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

const FILES: &[&str] = &[
    "gateway.proto",
    "image.proto",
    "function.proto",
    "secret.proto",
    "volume.proto",
];

/// Messages whose `Debug` is written in `src/redacted.rs`, since they carry what logs must not.
const REDACTED: &[&str] = &[
    "gateway.AuthorizeResponse",
    "gateway.EndTaskRequest",
    "gateway.GetOrCreateStubRequest",
    "gateway.MountPointConfig",
    "gateway.PutObjectRequest",
    "gateway.CreateObjectResponse",
    "gateway.SyncContainerWorkspaceRequest",
    "gateway.Token",
    "image.VerifyImageBuildRequest",
    "image.BuildImageRequest",
    "image.GitBuildSource",
    "function.FunctionInvokeRequest",
    "function.FunctionInvokeResponse",
    "secret.Secret",
    "secret.CreateSecretRequest",
    "secret.UpdateSecretRequest",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?);
    let descriptors = protox::compile(FILES, ["proto"])?;
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .btree_map(".")
        .bytes(".")
        .skip_debug(REDACTED)
        .compile_fds(descriptors)?;
    Ok(())
}
