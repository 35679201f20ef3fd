//! Copying whole files out of the span cache into backing files, for the kernel to read by itself.
//!
//! One at a time, on a thread that may wait for the disk, and none while a start goes on. Nothing
//! is fetched for it, and every byte is one that a reader would be given.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use image_fs::ImageFs;
use layer_index::{Inode, InodeId, NodeKind, Tree};

use crate::backing::{Answer, Question, ask};
use crate::opens::{BACKED_FROM, Opens, TOLD_FROM};

/// Copied at once.
const PIECE: usize = 1 << 20;

/// Why a file is not backed.
enum Unbacked {
    /// Not all of it is here yet.
    Incomplete,
    /// There is no room for this one.
    Refused,
    /// The kernel or the parent wants no more.
    Over,
}

pub(super) struct Copies {
    pub(super) filesystem: Arc<ImageFs>,
    pub(super) opens: Arc<Opens>,
    /// To the parent.
    pub(super) socket: OwnedFd,
    pub(super) device: OwnedFd,
}

/// Whether there is so much to be backed that it pays to be told of openings.
pub(super) fn are_of_use(tree: &Tree) -> bool {
    let directories = (1..=tree.len() as u64).map(InodeId);
    let names = directories.flat_map(|directory| tree.children(directory));
    let counted = names.filter_map(|(name, id)| Some((*id, counts(name, tree.inode(*id)?)?)));
    // A file with several names counts once.
    let counted: BTreeMap<InodeId, u64> = counted.collect();
    counted.into_values().fold(0, u64::saturating_add) >= TOLD_FROM
}

/// The bytes of a file that is likely to be read again and again. Programs and libraries are mapped
/// and stay so: they count where a single one is worth it.
fn counts(name: &[u8], inode: &Inode) -> Option<u64> {
    let NodeKind::File { size, .. } = inode.kind else {
        return None;
    };
    let is_library = name.ends_with(b".so") || name.windows(4).any(|part| part == b".so.");
    let is_code = inode.mode & 0o111 != 0 || is_library;
    let least = if is_code { TOLD_FROM } else { BACKED_FROM };
    (size >= least).then_some(size)
}

impl Copies {
    /// Makes those that are wanted, in the order of wanting, from when the start is over.
    pub(super) fn begin(
        self,
        wanted: Receiver<InodeId>,
        start_lasts: Duration,
    ) -> std::io::Result<()> {
        let work = move || {
            std::thread::sleep(start_lasts);
            self.serve(&wanted);
            self.opens.end();
        };
        let thread = std::thread::Builder::new().name("copies".to_owned());
        thread.spawn(work).map(drop)
    }

    fn serve(&self, wanted: &Receiver<InodeId>) {
        while let Ok(inode) = wanted.recv() {
            match self.copy(inode) {
                Ok(id) => self.opens.back(inode, id),
                Err(Unbacked::Incomplete) => self.opens.postpone(inode),
                Err(Unbacked::Refused) => self.opens.refuse(inode),
                Err(Unbacked::Over) => return,
            }
        }
    }

    fn copy(&self, inode: InodeId) -> Result<u32, Unbacked> {
        let bytes = match self.filesystem.tree().inode(inode).map(|inode| &inode.kind) {
            Some(NodeKind::File { size, .. }) => *size,
            _ => return Err(Unbacked::Refused),
        };
        if !self.filesystem.is_kept(inode) {
            return Err(Unbacked::Incomplete);
        }
        let file = match self.ask(&Question::Wanted { bytes })? {
            Answer::File(file) => File::from(file),
            Answer::No => return Err(Unbacked::Refused),
            Answer::Id(_) => return Err(Unbacked::Over),
        };
        self.fill(&file, inode, bytes)?;
        let device = self.device.try_clone().map_err(|_| Unbacked::Over)?;
        match self.ask(&Question::Done { device })? {
            Answer::Id(id) => Ok(id),
            Answer::No | Answer::File(_) => Err(Unbacked::Over),
        }
    }

    /// A file that is left half-filled is the parent's to delete, when the next one is wanted.
    fn fill(&self, file: &File, inode: InodeId, bytes: u64) -> Result<(), Unbacked> {
        let mut at = 0;
        while at < bytes {
            let piece = self.filesystem.kept(inode, at, PIECE);
            let piece = piece.filter(|piece| !piece.is_empty());
            let piece = piece.ok_or(Unbacked::Incomplete)?;
            file.write_all_at(&piece, at).map_err(|error| {
                tracing::debug!(inode = inode.0, %error, "cannot copy a file");
                Unbacked::Refused
            })?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn ask(&self, question: &Question) -> Result<Answer, Unbacked> {
        ask(self.socket.as_fd(), question).map_err(|error| {
            tracing::debug!(%error, "the parent answers no more about backing files");
            Unbacked::Over
        })
    }
}

#[cfg(test)]
mod tests {
    use layer_index::Mtime;

    use super::*;

    fn counted(name: &str, mode: u32, size: u64) -> Option<u64> {
        let (layer, extents) = (0, Box::default());
        let inode = Inode {
            kind: NodeKind::File {
                size,
                layer,
                extents,
            },
            mode,
            uid: 0,
            gid: 0,
            mtime: Mtime {
                seconds: 0,
                nanoseconds: 0,
            },
            nlink: 1,
            xattrs: Box::default(),
        };
        counts(name.as_bytes(), &inode)
    }

    #[test]
    fn data_counts_from_where_it_may_be_backed_and_code_where_it_is_large() {
        const SMALLER: u64 = TOLD_FROM - 1;
        for (name, mode, size, expected) in [
            ("weights.bin", 0o644, BACKED_FROM, true),
            ("weights.bin", 0o644, BACKED_FROM - 1, false),
            ("some.sorted", 0o600, BACKED_FROM, true),
            ("libblas.so", 0o644, SMALLER, false),
            ("libblas.so.3.1", 0o644, SMALLER, false),
            ("node", 0o755, SMALLER, false),
            ("node", 0o755, TOLD_FROM, true),
            ("libtorch.so", 0o644, TOLD_FROM, true),
        ] {
            let counts = counted(name, mode, size) == Some(size);
            assert_eq!(counts, expected, "{name} {mode:o} {size}");
        }
    }
}
