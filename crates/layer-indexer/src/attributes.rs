//! Which extended attributes of a member an extraction leaves on the file.
//!
//! `trusted.*` and what Linux has no name space for is dropped, as containerd drops it. What Linux
//! would refuse to set is refused, and so is an access control list that says another mode than
//! the member: which of the two counts depends on who unpacks.

use layer_index::{EntryKind, Xattr};

use crate::error::IndexerError;

const CAPABILITY: &[u8] = b"security.capability";
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";

/// Whether an extraction would look at an attribute of this name.
pub(crate) fn has_namespace(name: &[u8]) -> bool {
    let is_list = name == ACCESS_LIST || name == DEFAULT_LIST;
    is_list || name.starts_with(b"user.") || name.starts_with(b"security.")
}

/// The attributes that stay, in the order given.
pub(crate) fn kept(
    kind: &EntryKind,
    mode: u32,
    xattrs: &[Xattr],
) -> Result<Vec<Xattr>, IndexerError> {
    let mut kept = Vec::new();
    for (name, value) in xattrs {
        let verdict = judge(kind, mode, name, value).map_err(|problem| {
            let name = String::from_utf8_lossy(name);
            IndexerError::Archive(format!("attribute {name:?} {problem}"))
        })?;
        if verdict {
            kept.push((name.clone(), value.clone()));
        }
    }
    Ok(kept)
}

fn judge(kind: &EntryKind, mode: u32, name: &[u8], value: &[u8]) -> Result<bool, &'static str> {
    let is_symlink = matches!(kind, EntryKind::Symlink { .. });
    match name {
        b"user." | b"security." => Err("has no name"),
        CAPABILITY if !is_capability(value) => Err("is no set of capabilities"),
        name if name.starts_with(b"security.") => Ok(true),
        name if name.starts_with(b"user.") => {
            let can_have = matches!(
                kind,
                EntryKind::File { .. } | EntryKind::Directory | EntryKind::HardLink { .. }
            );
            let problem = "is on something that is neither file nor directory";
            can_have.then_some(true).ok_or(problem)
        }
        ACCESS_LIST if !is_symlink => access_list(value, mode),
        DEFAULT_LIST if !is_symlink => {
            let list = AccessList::read(value).ok_or("is no access control list")?;
            let is_directory = *kind == EntryKind::Directory && list.is_ordered;
            is_directory.then_some(true).ok_or("is not on a directory")
        }
        _ => Ok(false),
    }
}

/// Version 2, or version 3 with the id of its root.
fn is_capability(value: &[u8]) -> bool {
    matches!((value.get(3), value.len()), (Some(2), 20) | (Some(3), 24))
}

/// A list that says no more than the mode is not kept by Linux either.
fn access_list(value: &[u8], mode: u32) -> Result<bool, &'static str> {
    let list = AccessList::read(value).filter(|list| list.is_ordered);
    let list = list.ok_or("is no access control list")?;
    if list.mode != mode & 0o777 {
        return Err("says another mode than the member");
    }
    Ok(list.is_extended)
}

/// A list as `acl(5)` and the kernel have it.
struct AccessList {
    mode: u32,
    is_extended: bool,
    is_ordered: bool,
}

const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NO_ID: u32 = u32::MAX;

impl AccessList {
    fn read(value: &[u8]) -> Option<Self> {
        let entries = value.strip_prefix(&[2, 0, 0, 0])?;
        if !entries.len().is_multiple_of(8) {
            return None;
        }
        let (mut permissions, mut tags) = ([None; 4], Vec::new());
        for entry in entries.chunks_exact(8) {
            let tag = u16::from_le_bytes([entry[0], entry[1]]);
            let permission = u16::from_le_bytes([entry[2], entry[3]]);
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            let has_id = matches!(tag, USER | GROUP);
            if permission > 7 || has_id == (id == NO_ID) {
                return None;
            }
            let place = [OWNER, OWNING_GROUP, MASK, OTHER]
                .iter()
                .position(|known| *known == tag);
            match place {
                Some(place) if permissions[place].is_none() => {
                    permissions[place] = Some(u32::from(permission));
                }
                None if has_id => {}
                _ => return None,
            }
            tags.push(tag);
        }
        let [owner, group, mask, other] = permissions;
        let names_ids = tags.iter().any(|tag| matches!(*tag, USER | GROUP));
        Some(Self {
            mode: owner? << 6 | mask.unwrap_or(group?) << 3 | other?,
            is_extended: names_ids || mask.is_some(),
            is_ordered: tags.is_sorted() && (mask.is_some() || !names_ids),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0];
        for (tag, permission, id) in entries {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&permission.to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn an_access_control_list_says_what_the_mode_says() {
        let minimal = [
            (OWNER, 6, NO_ID),
            (OWNING_GROUP, 4, NO_ID),
            (OTHER, 4, NO_ID),
        ];
        let named = [
            minimal[0],
            (USER, 7, 5),
            minimal[1],
            (MASK, 6, NO_ID),
            minimal[2],
        ];
        let without_mask = [minimal[0], (USER, 7, 5), minimal[1], minimal[2]];
        let unordered = [minimal[2], minimal[0], minimal[1]];
        for (entries, mode, expected) in [
            (&minimal[..], 0o644, Some(false)),
            (&minimal, 0o600, None),
            (&named, 0o664, Some(true)),
            (&named, 0o644, None),
            (&without_mask, 0o644, None),
            (&unordered, 0o644, None),
            (&minimal[..2], 0o644, None),
            (&[], 0o644, None),
        ] {
            let found = access_list(&list(entries), mode).ok();
            assert_eq!(found, expected, "{entries:?} {mode:o}");
        }
        assert!(access_list(b"\x02\0\0\0cut", 0o644).is_err());
    }
}
