//! What a program reads first, guessed from the image where nobody has seen it start: the program,
//! whoever interprets it, the libraries that it needs and those that they need, and of Python what
//! every start of it imports.
//!
//! Step by step: what is known is fetched, read, and names what comes next. Everything here is the
//! image's word: each count and length has a limit, and what makes no sense is passed over. A guess
//! that is wrong costs bytes, and never an error.

pub(crate) mod elf;
mod find;
mod python;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use layer_index::{InodeId, NodeKind, Tree};

use self::find::{Finder, Found};
use crate::fetch::{Fetcher, prefetch};
use crate::plan;
use crate::trace::TraceEntry;

/// Steps from the program on. Each costs a round trip; libraries of libraries of libraries are at
/// the fifth.
const MAX_STEPS: usize = 8;

/// Files of one guess: programs with a hundred libraries are rare.
const MAX_FILES: usize = 256;

/// Decoded bytes of one guess: Python with its libraries has thirty million.
const MAX_BYTES: u64 = 128 << 20;

/// A file up to this length is fetched whole: a start touches most of a program or a library that
/// is no longer. Of a longer one the beginning and what says what it needs.
const WHOLE_FILE: u64 = 8 << 20;
const HEAD: u64 = 256 << 10;

/// What is looked at of a file to tell what it is.
const LOOK: usize = 4096;

/// The longest first line of a script that a kernel reads.
const SCRIPT_LINE: usize = 256;

/// A program as it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// A path, or a name that is looked for in `path`.
    pub name: String,
    pub working_dir: String,
    /// `PATH`: directories with colons between them.
    pub path: String,
    /// `LD_LIBRARY_PATH`.
    pub library_path: String,
}

/// Where a guess is made, and what it brings.
pub(crate) struct Startup {
    finder: Finder,
    fetcher: Arc<Fetcher>,
    program: Program,
}

/// A part of a file that is wanted.
#[derive(Clone, Debug)]
struct Part {
    file: Found,
    range: Range<u64>,
}

/// What a look at a file has told.
enum Look {
    Needs(Vec<Found>),
    /// This has to be fetched before more can be told.
    Missing(Range<u64>),
}

/// What has been wanted so far.
#[derive(Default)]
struct Wanted {
    files: HashSet<InodeId>,
    bytes: u64,
}

impl Startup {
    pub(crate) fn new(tree: Arc<Tree>, fetcher: Arc<Fetcher>, program: Program) -> Self {
        Self {
            finder: Finder::new(tree),
            fetcher,
            program,
        }
    }

    /// Fetches step by step. Returns when the guess is at its end.
    pub(crate) async fn prefetch(self) {
        let startup = Arc::new(self);
        let mut wanted = Wanted::default();
        let first = startup.program().into_iter().collect();
        let mut parts = wanted.parts(startup.finder.tree(), first);
        for _ in 0..MAX_STEPS {
            let spans = parts.iter().flat_map(|part| startup.spans(part)).collect();
            prefetch(Arc::clone(&startup.fetcher), spans).await;
            let (looking, looked_at) = (Arc::clone(&startup), parts);
            let look = move || looking.look_at_all(looked_at);
            let Ok((found, missing)) = startup.fetcher.runtime.spawn_blocking(look).await else {
                return;
            };
            parts = wanted.parts(startup.finder.tree(), found);
            parts.extend(missing.into_iter().filter(|part| wanted.has_room(part)));
            if parts.is_empty() {
                return;
            }
        }
    }

    fn program(&self) -> Option<Found> {
        let program = &self.program;
        self.finder
            .program(&program.name, &program.working_dir, &program.path)
    }

    /// What the files need, and what is missing to tell it.
    fn look_at_all(&self, parts: Vec<Part>) -> (Vec<Found>, Vec<Part>) {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for Part { file, .. } in parts {
            match self.look_at(&file) {
                Look::Needs(files) => found.extend(files),
                Look::Missing(range) => missing.push(Part { file, range }),
            }
        }
        (found, missing)
    }

    fn look_at(&self, file: &Found) -> Look {
        let Some(head) = self.peek(file.inode, 0, LOOK) else {
            // It was fetched and is not here: the registry is away, or the cache is full.
            return Look::Needs(Vec::new());
        };
        if let Some(line) = script_line(&head) {
            return Look::Needs(self.interpreters(line));
        }
        let mut missing = None;
        let needs = elf::needs(&head, &mut |offset, length| {
            let bytes = self.peek(file.inode, offset, length);
            if bytes.is_none() {
                missing = Some(offset..offset.saturating_add(length as u64));
            }
            bytes
        });
        match (needs, missing) {
            (_, Some(range)) => Look::Missing(range),
            (Some(needs), None) => Look::Needs(self.needed(file, &needs)),
            (None, None) => Look::Needs(Vec::new()),
        }
    }

    /// What the first line of a script names, and what `env` in it does.
    fn interpreters(&self, line: &str) -> Vec<Found> {
        let program = &self.program;
        let words = line.split_ascii_whitespace().take(2);
        let found = words.filter_map(|word| {
            self.finder
                .program(word, &program.working_dir, &program.path)
        });
        found.collect()
    }

    fn needed(&self, file: &Found, needs: &elf::Needs) -> Vec<Found> {
        let paths = find::Libraries {
            own: &needs.run_path,
            of_environment: &self.program.library_path,
            beside: file.directory(),
        };
        let interpreter = needs.interpreter.iter();
        let mut found: Vec<Found> = interpreter
            .filter_map(|path| self.finder.resolve(path))
            .collect();
        if !found.is_empty() {
            found.extend(self.finder.resolve(find::LOADER_CACHE));
        }
        let libraries = needs.libraries.iter();
        found.extend(libraries.filter_map(|name| self.finder.library(name, &paths)));
        let modules = python::first_modules(&file.path);
        found.extend(modules.iter().filter_map(|path| self.finder.resolve(path)));
        found
    }

    /// Bytes of a file, if all of them are here.
    fn peek(&self, inode: InodeId, offset: u64, length: usize) -> Option<Bytes> {
        let NodeKind::File {
            size,
            layer,
            extents,
        } = &self.finder.tree().inode(inode)?.kind
        else {
            return None;
        };
        let left = usize::try_from(size.checked_sub(offset)?).unwrap_or(usize::MAX);
        let length = length.min(left);
        let pieces = plan::pieces(extents, offset, length);
        self.fetcher.peek(*layer, &pieces, length)
    }

    fn spans(&self, part: &Part) -> Vec<TraceEntry> {
        let Some(NodeKind::File { layer, extents, .. }) = self
            .finder
            .tree()
            .inode(part.file.inode)
            .map(|inode| &inode.kind)
        else {
            return Vec::new();
        };
        let length = part.range.end.saturating_sub(part.range.start);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let pieces = plan::pieces(extents, part.range.start, length);
        let spans = self.fetcher.spans_of(*layer, &pieces).unwrap_or_default();
        let entry = |span| TraceEntry {
            layer: u32::try_from(*layer).unwrap_or(u32::MAX),
            span: u32::try_from(span).unwrap_or(u32::MAX),
            at_ms: 0,
        };
        spans.into_iter().map(entry).collect()
    }
}

impl Wanted {
    /// What is to be fetched of files that were not wanted before.
    fn parts(&mut self, tree: &Tree, found: Vec<Found>) -> Vec<Part> {
        let mut parts = Vec::new();
        for file in found {
            let Some(NodeKind::File { size, .. }) = tree.inode(file.inode).map(|inode| &inode.kind)
            else {
                continue;
            };
            let end = if *size <= WHOLE_FILE { *size } else { HEAD };
            let part = Part {
                file,
                range: 0..end,
            };
            let is_news = !self.files.contains(&part.file.inode);
            if is_news && self.files.len() < MAX_FILES && self.has_room(&part) {
                self.files.insert(part.file.inode);
                parts.push(part);
            }
        }
        parts
    }

    fn has_room(&mut self, part: &Part) -> bool {
        let length = part.range.end.saturating_sub(part.range.start);
        let bytes = self.bytes.saturating_add(length);
        if bytes > MAX_BYTES {
            return false;
        }
        self.bytes = bytes;
        true
    }
}

/// The first line of a script, without its mark.
fn script_line(head: &[u8]) -> Option<&str> {
    let rest = head.strip_prefix(b"#!")?;
    let rest = &rest[..rest.len().min(SCRIPT_LINE)];
    let line = rest.split(|byte| *byte == b'\n').next()?;
    std::str::from_utf8(line).ok()
}
