//! What commands that ask a gateway take, and those that name gateways and make tokens for them.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ids::{ContainerId, TaskId, TokenId};

use crate::contexts::parse_name;

/// Which gateway is asked.
#[derive(Debug, Args)]
pub(crate) struct GatewayArg {
    /// URL of a gateway, whose token is in `HOLDFAST_TOKEN` or a context [default: the one that
    /// serves the data directory, if it answers, else the current context]
    #[arg(
        long,
        value_name = "URL",
        env = "HOLDFAST_GATEWAY",
        help_heading = GATEWAY_HEADING
    )]
    pub(crate) gateway: Option<String>,
    /// Name of a gateway, as `holdfast context list` shows it; `HOLDFAST_CONTEXT` names one too
    #[arg(long, value_name = "NAME", help_heading = GATEWAY_HEADING)]
    pub(crate) context: Option<String>,
    /// Certificate authority of the gateway (PEM), besides those that the machine trusts
    #[arg(
        long,
        value_name = "FILE",
        env = "HOLDFAST_CA_FILE",
        help_heading = GATEWAY_HEADING
    )]
    pub(crate) ca_file: Option<PathBuf>,
}

const GATEWAY_HEADING: &str = "Which gateway";

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List the gateways; the current one has a star
    List,
    /// Keep a gateway under a name, with a token that is read from standard input; the first one is
    /// the current one, and a name that is in use is replaced
    Add(ContextAddArgs),
    /// Ask this gateway where none is named
    Use {
        /// Name of the gateway
        name: String,
    },
    /// Show a gateway; its token is not shown
    Show {
        /// Name of the gateway [default: the current one]
        name: Option<String>,
    },
    /// Forget a gateway and its token
    Remove {
        /// Name of the gateway
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ContextAddArgs {
    /// What it is called here
    #[arg(value_parser = parse_name)]
    pub(crate) name: String,
    /// URL of the gateway
    #[arg(long, value_name = "URL")]
    pub(crate) gateway: String,
    /// Certificate authority of the gateway (PEM), besides those that the machine trusts
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Send the token to another machine in the clear, where everyone on the way can read it
    #[arg(long)]
    pub(crate) allow_plain_http: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokensCommand {
    /// Make a token and show it, once
    Create {
        /// What it is called in lists
        name: String,
        /// What it is for, of read, call, secrets, tokens and metrics [default: all but metrics,
        /// which are of all workspaces]
        #[arg(long, value_name = "SCOPE")]
        scope: Vec<String>,
        /// Days until it is over [default: never]
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..))]
        days: Option<u16>,
    },
    /// List tokens; what they are is known to nobody
    List,
    /// Let a token count again
    Enable {
        /// Id of the token
        id: TokenId,
    },
    /// Let a token count no more, at once
    Disable {
        /// Id of the token
        id: TokenId,
    },
    /// Remove a token
    Rm {
        /// Id of the token
        id: TokenId,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TasksCommand {
    /// List calls, newest first
    List {
        #[command(flatten)]
        gateway: GatewayArg,
        /// Only those that are pending, running or ended
        #[arg(long, value_parser = ["pending", "running", "ended"])]
        state: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Show one call, and why it failed if it did
    Show {
        #[command(flatten)]
        gateway: GatewayArg,
        /// Id of the call
        id: TaskId,
    },
    /// Ask for the end of calls
    Cancel {
        #[command(flatten)]
        gateway: GatewayArg,
        /// Ids of the calls
        #[arg(required = true)]
        ids: Vec<TaskId>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) gateway: GatewayArg,
    /// Go on until the call has ended
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Id of the call
    pub(crate) task: TaskId,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContainersCommand {
    /// List the containers that have not ended
    List {
        #[command(flatten)]
        gateway: GatewayArg,
    },
    /// Stop containers; their calls have ten seconds to end
    Stop {
        #[command(flatten)]
        gateway: GatewayArg,
        /// Ids of the containers
        #[arg(required = true)]
        ids: Vec<ContainerId>,
    },
}
