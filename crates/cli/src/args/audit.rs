//! What is asked of the audit log.

use clap::{ArgGroup, Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List what was given out to a worker, or of a credential: what of it is alive, until when,
    /// and what is to be rotated
    Blast(BlastArgs),
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("whose").required(true).args(["worker", "credential"])))]
pub(crate) struct BlastArgs {
    /// Name or id of a worker, also of one that was removed
    #[arg(long, value_name = "NAME")]
    pub(crate) worker: Option<String>,
    /// Scope of a credential, also of one that was removed
    #[arg(long, value_name = "SCOPE")]
    pub(crate) credential: Option<String>,
    /// Only what was given since then: 2026-01-31T08:00:00Z, or 12h for so long ago
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
}
