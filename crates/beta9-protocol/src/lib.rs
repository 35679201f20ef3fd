//! The wire that the `beta9` Python client speaks to its gateway: messages and service traits,
//! made of our own `proto` files, which say field by field what the client sends and reads.
//!
//! ```text
//! fn.remote()
//!   1  ImageService.VerifyImageBuild      is this image there?
//!   2  ImageService.BuildImage            make it           (stream of lines; unless 1 said yes)
//!   3  GatewayService.HeadObject          are these files there?
//!   4  GatewayService.PutObjectStream     have them         (stream of pieces; unless 3 said yes)
//!   5  GatewayService.GetOrCreateStub     this is the function
//!   6  FunctionService.FunctionInvoke     call it           (stream: task id, output, result)
//! ```
//!
//! Invariants: paths, numbers and types are those of clients 0.1.245 and 0.1.291, by
//! `tests/it/client.rs`. Whatever those clients may send is declared, used or not, so that a
//! gateway can refuse by name what it does not support, and nothing is lost silently. What carries
//! secrets or users' data has a `Debug` that leaves it out.
//!
//! Deliberately no transport, no TLS and no authentication: a service goes into the HTTP server
//! that is there. No rules about values. No methods of deployments, endpoints, queues, sandboxes
//! and machines, nor of what runs inside a container, which has a protocol of ours. Values lie in
//! plain strings here: who serves a request moves secrets into a `SecretString` at once.

pub mod metadata;
mod redacted;

pub use generated::{function, gateway, image, secret, volume};

/// The longest message that a client sends or takes. A server must be told: where nothing is said,
/// tonic stops at 4 MiB, and a full piece of [`gateway::PutObjectRequest`] is a little longer.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// An encoded `FileDescriptorSet`: everything that the .proto files say.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[allow(
    clippy::pedantic,
    reason = "generated, and not by a reader of our lints"
)]
mod generated {
    /// Objects, stubs, tasks, containers and tokens.
    pub mod gateway {
        tonic::include_proto!("gateway");
    }

    /// Images.
    pub mod image {
        tonic::include_proto!("image");
    }

    /// Calls.
    pub mod function {
        tonic::include_proto!("function");
    }

    /// Secrets.
    pub mod secret {
        tonic::include_proto!("secret");
    }

    /// Volumes, to refuse them.
    pub mod volume {
        tonic::include_proto!("volume");
    }
}
