//! Whether blocks take an entropy table of before.

/// The tables that a block may take from an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableKind {
    Literals,
    LiteralLengths,
    Offsets,
    MatchLengths,
}

/// What a block does with a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TableUse {
    #[default]
    None,
    /// It brings one.
    Own,
    /// It takes the last one that was used.
    Earlier,
}

/// What a block does with each table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableUses([TableUse; 4]);

impl TableUses {
    pub(crate) fn set(&mut self, kind: TableKind, table: TableUse) {
        self.0[kind as usize] = table;
    }
}

/// Looks from a place on whether the blocks after it take a table of before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableWatch {
    /// Tables that were brought since.
    brought: [bool; 4],
    is_broken: bool,
}

impl TableWatch {
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn see(&mut self, uses: TableUses) {
        for (brought, table) in self.brought.iter_mut().zip(uses.0) {
            match table {
                TableUse::None => {}
                TableUse::Own => *brought = true,
                TableUse::Earlier => self.is_broken |= !*brought,
            }
        }
    }

    /// A table of before was taken: blocks cannot be decoded from that place on.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Nothing that comes can break it any more.
    pub fn is_settled(&self) -> bool {
        self.is_broken || self.brought == [true; 4]
    }
}
