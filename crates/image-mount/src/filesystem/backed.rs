//! Telling the kernel that it reads a file by itself.
#![allow(
    unsafe_code,
    reason = "what the kernel calls a backing file comes from the parent, as a number"
)]

use fuser::{FileHandle, FopenFlags, OpenFlags, ReplyOpen};
use rustix::fs::OFlags;

/// Who goes round the page cache need not know that there are blocks with sizes below: it goes on
/// being answered by us.
fn how(flags: OpenFlags) -> FopenFlags {
    let direct = OFlags::DIRECT.bits().cast_signed();
    if flags.0 & direct == 0 {
        FopenFlags::empty()
    } else {
        FopenFlags::FOPEN_DIRECT_IO
    }
}

/// What the kernel has kept of the file it need not keep any more.
pub(super) fn opened(reply: ReplyOpen, id: u32, flags: OpenFlags) {
    // SAFETY: the kernel gave the parent this number for the connection that is asked here, and
    // nobody closes it before the connection ends: neither the parent nor, as it is taken apart
    // below, this.
    let backing = unsafe { reply.wrap_backing(id) };
    reply.opened_passthrough(FileHandle(0), how(flags), &backing);
    let _ends_with_the_mount = backing.into_raw();
}
