//! What a merged tree must be, whatever layers it came from.

use layer_index::{InodeId, NodeKind, Tree};

/// Every inode is reached from the root, names are names, and directories know their parents.
pub(crate) fn check(tree: &Tree) {
    assert_eq!(tree.root(), InodeId(1));
    assert!(!tree.is_empty());
    assert!(tree.inode(InodeId(0)).is_none());
    assert!(tree.inode(InodeId(tree.len() as u64 + 1)).is_none());
    let mut names = vec![0_u64; tree.len()];
    for id in ids(tree) {
        let inode = tree.inode(id).expect("ids are dense");
        let is_directory = matches!(inode.kind, NodeKind::Directory { .. });
        assert!(is_directory || tree.children(id).is_empty());
        assert!(inode.nlink > 0);
        assert!(inode.mode <= 0o7777);
        assert!(inode.xattrs.is_sorted_by(|one, next| one.0 < next.0));
        let hidden = |name: &[u8]| name.starts_with(b"trusted.overlay.");
        assert!(!inode.xattrs.iter().any(|(name, _)| hidden(name)));
        check_children(tree, id, &mut names);
    }
    names[0] += 1;
    assert!(
        names.iter().all(|count| *count > 0),
        "an inode that nothing reaches"
    );
}

fn check_children(tree: &Tree, id: InodeId, names: &mut [u64]) {
    let children = tree.children(id);
    assert!(children.is_sorted_by(|one, next| one.0 < next.0));
    let mut directories = 0;
    for (name, child) in children {
        let special = [&b""[..], b".", b".."].contains(&name.as_ref());
        assert!(!special && !name.contains(&b'/') && !name.contains(&0));
        assert_eq!(tree.lookup(id, name), Some(*child));
        names[usize::try_from(child.0 - 1).expect("in memory")] += 1;
        let inode = tree.inode(*child).expect("a child is there");
        if let NodeKind::Directory { parent } = inode.kind {
            assert_eq!(parent, id);
            directories += 1;
        }
    }
    if let Some(inode) = tree.inode(id)
        && let NodeKind::Directory { .. } = inode.kind
    {
        assert_eq!(inode.nlink, 2 + directories);
    }
}

/// In a tree of one layer every name is counted and none is counted that is not there.
pub(crate) fn check_link_counts(tree: &Tree) {
    let mut names = vec![0_u32; tree.len()];
    for (_, child) in ids(tree).flat_map(|id| tree.children(id)) {
        names[usize::try_from(child.0 - 1).expect("in memory")] += 1;
    }
    for (id, names) in ids(tree).zip(names) {
        let inode = tree.inode(id).expect("ids are dense");
        if !matches!(inode.kind, NodeKind::Directory { .. }) {
            assert_eq!(inode.nlink, names, "link count of {id:?}");
        }
    }
}

fn ids(tree: &Tree) -> impl Iterator<Item = InodeId> + '_ {
    (1..=tree.len() as u64).map(InodeId)
}
