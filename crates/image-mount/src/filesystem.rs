//! The FUSE adaptor: requests of the kernel to questions to `image-fs`, and errors to errno.
//!
//! Everything but file bytes is answered from memory on the thread that reads `/dev/fuse`. Bytes
//! that are not in the cache are awaited in a task that owns the reply, so no thread of the
//! kernel's queue ever waits for a registry. A reply that is dropped, by a panic too, is an EIO.

mod backed;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};
use image_fs::ImageFs;
use layer_index::{Inode, InodeId, NodeKind, Tree};
use tokio::runtime::Handle;

use crate::attributes;
use crate::opens::{Opening, Opens};
use crate::request::IdShift;

/// An image never changes, so the kernel may remember everything for as long as it likes.
const FOREVER: Duration = Duration::from_hours(24);

/// Requests that the kernel keeps in flight on its own account, read-ahead above all. Waiting for
/// a registry costs nothing here, so many may wait.
const MAX_BACKGROUND: u16 = 128;

/// Inodes are never reused, so there is one generation.
const GENERATION: Generation = Generation(1);

/// Longest name that Linux lets through.
const MAX_NAME: u32 = 255;

/// How many file systems are stacked with us: one below, which is that of the backing files. The
/// kernel allows two, and a container's overlay is the other.
const STACK_DEPTH: u32 = 1;

/// Of files whose close we need not hear of, and of those that are counted.
const UNCOUNTED: FileHandle = FileHandle(0);
const COUNTED: FileHandle = FileHandle(1);

pub(crate) struct Adaptor {
    filesystem: Arc<ImageFs>,
    runtime: Handle,
    shift: Option<IdShift>,
    /// The kernel can do without open and release, one round trip each.
    skips_open: bool,
    /// Where files may be backed, for which the kernel has to ask at each open.
    opens: Option<Arc<Opens>>,
    /// Something in the image has an extended attribute.
    has_xattrs: bool,
}

impl Adaptor {
    pub(crate) fn new(
        filesystem: Arc<ImageFs>,
        runtime: Handle,
        shift: Option<IdShift>,
        opens: Option<Arc<Opens>>,
    ) -> Self {
        let has_xattrs = any(filesystem.tree(), attributes::has_xattr);
        Self {
            filesystem,
            runtime,
            shift,
            skips_open: false,
            opens,
            has_xattrs,
        }
    }

    fn inode(&self, id: INodeNo) -> Result<(InodeId, &Inode), Errno> {
        let id = InodeId(id.0);
        self.filesystem
            .tree()
            .inode(id)
            .map(|inode| (id, inode))
            .ok_or(Errno::ENOENT)
    }

    fn attr(&self, id: InodeId) -> Result<FileAttr, Errno> {
        let (id, inode) = self.inode(INodeNo(id.0))?;
        Ok(attributes::file_attr(id, inode, self.shift))
    }

    fn find(&self, parent: INodeNo, name: &[u8]) -> Result<Option<InodeId>, Errno> {
        let (id, inode) = self.inode(parent)?;
        match (name, &inode.kind) {
            // The kernel finds its way back by these when it opens a file by handle.
            (b".", _) => Ok(Some(id)),
            (b"..", NodeKind::Directory { parent }) => Ok(Some(*parent)),
            (name, NodeKind::Directory { .. }) => Ok(self.filesystem.tree().lookup(id, name)),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Entries of a directory from `offset` on: position of the next one, inode, name.
    fn entries(
        &self,
        id: INodeNo,
        offset: u64,
    ) -> Result<impl Iterator<Item = (u64, InodeId, &[u8])>, Errno> {
        let (id, inode) = self.inode(id)?;
        let NodeKind::Directory { parent } = &inode.kind else {
            return Err(Errno::ENOTDIR);
        };
        let own: [(InodeId, &[u8]); 2] = [(id, b"."), (*parent, b"..")];
        let children = self.filesystem.tree().children(id);
        let all = own
            .into_iter()
            .chain(children.iter().map(|(name, id)| (*id, name.as_ref())));
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(all
            .skip(skipped)
            .zip(offset..)
            .map(|((id, name), at)| (at + 1, id, name)))
    }

    fn xattr(&self, id: INodeNo, name: &[u8]) -> Result<Vec<u8>, Errno> {
        // Said once, and the kernel answers by itself from then on, at each start of a program and
        // at each folder that an overlay looks up.
        if !self.has_xattrs {
            return Err(Errno::ENOSYS);
        }
        let (_, inode) = self.inode(id)?;
        let value = attributes::xattr_value(inode, name, self.shift).ok_or(Errno::ENODATA)?;
        Ok(value.into_owned())
    }

    fn opening(&self, id: InodeId, inode: &Inode) -> Opening {
        let unbacked = if self.skips_open {
            Opening::Untold
        } else {
            Opening::Small
        };
        match (&self.opens, &inode.kind) {
            (Some(opens), NodeKind::File { size, .. }) => match opens.open(id, *size) {
                Opening::Untold => unbacked,
                opening => opening,
            },
            (Some(_), _) => Opening::Small,
            (None, _) => unbacked,
        }
    }

    fn configure(&mut self, config: &mut KernelConfig) {
        // What a kernel lacks costs speed, not truth.
        let wanted = [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_EXPORT_SUPPORT,
            InitFlags::FUSE_EXPLICIT_INVAL_DATA,
        ];
        for flag in wanted {
            let _ = config.add_capabilities(flag);
        }
        let skipping = InitFlags::FUSE_NO_OPEN_SUPPORT | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        self.skips_open = config.add_capabilities(skipping).is_ok();
        if !backs_files(config) {
            self.opens = None;
        }
        // The kernel then asks for a list at every check of a group's permission.
        if any(self.filesystem.tree(), attributes::has_acl) {
            let _ = config.add_capabilities(InitFlags::FUSE_POSIX_ACL);
        }
        let _ = config.set_max_background(MAX_BACKGROUND);
    }
}

fn any(tree: &Tree, is_such: impl Fn(&Inode) -> bool) -> bool {
    let mut ids = 1..=tree.len() as u64;
    ids.any(|id| tree.inode(InodeId(id)).is_some_and(&is_such))
}

/// Whether the kernel reads backing files. It cannot before Linux 6.9.
fn backs_files(config: &mut KernelConfig) -> bool {
    config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
        && config.set_max_stack_depth(STACK_DEPTH).is_ok()
}

/// Runs one request; a panic is its own EIO, since the reply is dropped with it.
fn guard(work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        tracing::error!("a file system request panicked");
    }
}

fn send_xattr(reply: ReplyXattr, size: u32, value: &[u8]) {
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

impl Filesystem for Adaptor {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.configure(config);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        guard(|| match self.find(parent, name.as_bytes()) {
            Ok(Some(id)) => match self.attr(id) {
                Ok(attr) => reply.entry(&FOREVER, &attr, GENERATION),
                Err(errno) => reply.error(errno),
            },
            // Inode 0 is "not there", to be remembered like everything else.
            Ok(None) => reply.entry(&FOREVER, &absent(), GENERATION),
            Err(errno) => reply.error(errno),
        });
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        guard(|| match self.attr(InodeId(ino.0)) {
            Ok(attr) => reply.attr(&FOREVER, &attr),
            Err(errno) => reply.error(errno),
        });
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        guard(|| match self.inode(ino) {
            Ok((
                _,
                Inode {
                    kind: NodeKind::Symlink { target },
                    ..
                },
            )) => reply.data(target),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(errno) => reply.error(errno),
        });
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let kept = FopenFlags::FOPEN_KEEP_CACHE;
        guard(|| match self.inode(ino) {
            Ok((id, inode)) => match self.opening(id, inode) {
                // Said once, and the kernel opens files by itself from then on, keeping its cache.
                Opening::Untold => reply.error(Errno::ENOSYS),
                Opening::Small => reply.opened(UNCOUNTED, kept),
                Opening::Asking => reply.opened(COUNTED, kept),
                Opening::Backed(backing) => backed::opened(reply, backing, flags),
            },
            Err(errno) => reply.error(errno),
        });
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        guard(|| {
            if let (COUNTED, Some(opens)) = (handle, &self.opens) {
                opens.close(InodeId(ino.0));
            }
            reply.ok();
        });
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let cached = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR;
        guard(|| match self.inode(ino) {
            Ok(_) if self.skips_open => reply.error(Errno::ENOSYS),
            Ok(_) => reply.opened(UNCOUNTED, cached),
            Err(errno) => reply.error(errno),
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Nothing is ever written; the kernel does not ask again.
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (id, length) = (InodeId(ino.0), size as usize);
        guard(|| {
            if let Some(bytes) = self.filesystem.read_cached(id, offset, length) {
                return reply.data(&bytes);
            }
            let filesystem = Arc::clone(&self.filesystem);
            self.runtime.spawn(async move {
                match filesystem.read(id, offset, length).await {
                    Ok(bytes) => reply.data(&bytes),
                    Err(error) => {
                        tracing::debug!(inode = id.0, offset, %error, "read failed");
                        reply.error(Errno::EIO);
                    }
                }
            });
        });
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        guard(|| {
            let entries = match self.entries(ino, offset) {
                Ok(entries) => entries,
                Err(errno) => return reply.error(errno),
            };
            for (next, id, name) in entries {
                let kind = self.inode(INodeNo(id.0)).map(|(_, inode)| &inode.kind);
                let kind = kind.map_or(FileType::RegularFile, attributes::file_type);
                if reply.add(INodeNo(id.0), next, kind, OsStr::from_bytes(name)) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        guard(|| {
            let entries = match self.entries(ino, offset) {
                Ok(entries) => entries,
                Err(errno) => return reply.error(errno),
            };
            for (next, id, name) in entries {
                let Ok(attr) = self.attr(id) else { continue };
                let name = OsStr::from_bytes(name);
                if reply.add(INodeNo(id.0), next, name, &FOREVER, &attr, GENERATION) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        guard(|| {
            let block = attributes::BLOCK_SIZE;
            let blocks = self.filesystem.bytes_of_files().div_ceil(u64::from(block));
            let files = self.filesystem.tree().len() as u64;
            reply.statfs(blocks, 0, 0, files, 0, block, MAX_NAME, block);
        });
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        guard(|| match self.xattr(ino, name.as_bytes()) {
            Ok(value) => send_xattr(reply, size, &value),
            Err(errno) => reply.error(errno),
        });
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        guard(|| match self.inode(ino) {
            Ok((_, inode)) => send_xattr(reply, size, &attributes::xattr_names(inode)),
            Err(errno) => reply.error(errno),
        });
    }
}

/// The attributes of a name that is not there.
fn absent() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: std::time::UNIX_EPOCH,
        mtime: std::time::UNIX_EPOCH,
        ctime: std::time::UNIX_EPOCH,
        crtime: std::time::UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}
