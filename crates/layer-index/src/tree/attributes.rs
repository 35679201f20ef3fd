//! Attributes of a file while its layer is extracted: what an entry changes of them.

use crate::entry::{Mtime, Xattr};

/// Attributes that overlayfs keeps for itself. It would obey them, so they are never shown.
pub(super) const OVERLAY_XATTRS: &[u8] = b"trusted.overlay.";

/// Linux takes it off when a file changes its owner, and a hard link in an archive says an owner.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

pub(super) const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
pub(super) const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";

/// What a directory gets that no archive describes.
pub(super) const IMPLICIT: Attributes = Attributes {
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtime: Mtime {
        seconds: 0,
        nanoseconds: 0,
    },
    xattrs: Vec::new(),
};

#[derive(Clone, Debug)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Mtime,
    pub(super) xattrs: Vec<Xattr>,
}

impl Attributes {
    /// What an entry says of a file that is there: all but extended attributes replace the old.
    pub(super) fn replace(&mut self, new: Attributes) -> Result<(), &'static str> {
        let mut xattrs = std::mem::take(&mut self.xattrs);
        if has(&xattrs, ACCESS_LIST) && self.mode != new.mode && !has(&new.xattrs, ACCESS_LIST) {
            return Err("another mode for a file that has an access control list");
        }
        for (name, value) in new.xattrs {
            match xattrs.binary_search_by(|(known, _)| known.cmp(&name)) {
                Ok(at) => xattrs[at].1 = value,
                Err(at) => xattrs.insert(at, (name, value)),
            }
        }
        *self = Attributes { xattrs, ..new };
        Ok(())
    }
}

pub(super) fn has(xattrs: &[Xattr], wanted: &[u8]) -> bool {
    xattrs.iter().any(|(name, _)| name.as_ref() == wanted)
}
