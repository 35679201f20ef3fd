//! What `issuer` takes.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum IssuerCommand {
    /// Show the issuer, what clouds know this workspace by, and what to set in each of them
    Show,
    /// Write what clouds ask for as files, for any web host to serve below the issuer's URL; from
    /// then on keys are replaced by hand alone
    Export {
        /// Directory to write into
        directory: PathBuf,
    },
    /// Note that what was exported is served no more: the gateway publishes the documents, and
    /// replaces keys that are old
    Withdraw,
    /// Have the next key sign, and publish the one after it
    Rotate {
        /// Put new keys in place of all there are, for keys that may be in wrong hands: until
        /// clouds have looked for keys again, they refuse what the new ones sign
        #[arg(long)]
        replace_all: bool,
    },
}
