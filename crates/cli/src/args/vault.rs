//! What `vault` and `state` take.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum VaultCommand {
    /// Check every sealed row and the audit chain, and print where the chain ends
    Verify {
        /// File outside the data directory, best on another machine, with an earlier end of the
        /// chain: whether the vault was put back to an older copy shows there alone
        #[arg(long, value_name = "FILE")]
        anchor: Option<PathBuf>,
        /// Note the end in the anchor's file when all is sound
        #[arg(long)]
        update: bool,
    },
    /// Wrap the workspace keys under a new root key, while the vault is in use
    RotateKey {
        /// Where the new key comes from, if not from the file of the old one; a file is made.
        /// What runs meanwhile needs it as `root_key_next`
        #[arg(long, value_name = "SOURCE")]
        to: Option<PathBuf>,
    },
    /// Make all that a workspace has sealed unreadable for ever, and end the leases on it
    ///
    /// Its key is replaced, so that copies of its rows open nowhere. A backup of the whole vault
    /// still opens; remove those that were made before.
    Shred {
        /// Workspace
        name: String,
        /// Do not ask for the name again
        #[arg(long)]
        yes: bool,
    },
    /// Write a copy of the vault, sealed as it is
    Backup {
        /// File to write
        file: PathBuf,
    },
    /// Put a backup in place of an empty vault
    Restore {
        /// File that `backup` wrote
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Write a copy of the state, as it is now; it holds no secret, and the inputs and results of
    /// calls in the clear
    Backup {
        /// File to write
        file: PathBuf,
    },
    /// Put a backup in place of an empty state, while no gateway serves it
    Restore {
        /// File that `backup` wrote
        file: PathBuf,
        /// Remove what the state has
        #[arg(long)]
        replace: bool,
    },
}
