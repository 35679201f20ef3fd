//! What `workspace` takes.

use std::time::Duration;

use broker::{AfterRemoval, OFFLINE_MAX};
use clap::Subcommand;

use super::parse_after_removal;

#[derive(Debug, Subcommand)]
pub(crate) enum WorkspaceCommand {
    /// List workspaces and what they have set
    List,
    /// Show the workspace that --workspace names
    Show,
    /// Change what it has set
    Set {
        /// What becomes of containers whose credential is removed, where `logout` does not say
        #[arg(long, value_name = "continue|drain|kill", value_parser = parse_after_removal,
              required_unless_present = "offline")]
        running: Option<AfterRemoval>,
        /// For how long pinned images start while their registries do not answer, since they were
        /// proven last: such as 45m, 12h or 7d, at most 30d; 0 is never [default: 12h]
        #[arg(long, value_name = "TIME", value_parser = parse_offline)]
        offline: Option<Duration>,
    },
}

fn parse_offline(text: &str) -> Result<Duration, String> {
    let wanted = || "a number with s, m, h or d, at most 30d, or 0 for never".to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let units = [("s", 1), ("m", 60), ("h", 60 * 60), ("d", 24 * 60 * 60)];
    let with_unit = |(unit, seconds)| Some((text.strip_suffix(unit)?, seconds));
    let (number, unit_seconds) = units.into_iter().find_map(with_unit).ok_or_else(wanted)?;
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let seconds = number.checked_mul(unit_seconds).ok_or_else(wanted)?;
    let offline = Duration::from_secs(seconds);
    (offline <= OFFLINE_MAX)
        .then_some(offline)
        .ok_or_else(wanted)
}
