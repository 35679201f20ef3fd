//! Images as directories: the FUSE adaptor over `image-fs`, and the process that serves one image.
//!
//! Owns the mount process from both sides: the parent's handle ([`MountProcess`]) and the child's
//! main function ([`serve`]); the protocol between them; and the translation of a merged tree into
//! what the kernel's FUSE asks. Invariants: a mount is read-only; a request that panics or fails is
//! that request's EIO; the parent mounts, opens files and holds no byte of them, the child holds
//! bytes and is confined; credentials and open files cross the socket and nothing else does.
//! Decides nothing about what a file contains.

mod attributes;
mod backing;
mod causes;
mod descriptors;
mod filesystem;
mod janitor;
mod mount;
mod opens;
mod process;
mod request;
mod server;
mod wire;

pub use janitor::{Janitor, watch_inherited};
pub use mount::{unmount, unmount_dead};
pub use process::{
    FillError, FillWatch, LayerVerdict, MountError, MountProcess, MountServer, fill, verify,
};
pub use request::{IdShift, LayerRef, MountLog, MountRequest, MountStats};
pub use server::{SERVER_PROFILE, ServeError, serve, serve_inherited};

pub use image_fs::{NoticeKind, Program, RECORD_FOR, TraceEntry};
