//! The command line as typed: flags, their help and nothing else.
//!
//! No value here is a secret: secrets come by standard input, file or the name of an environment
//! variable. What a flag means is decided in `commands`.

mod audit;
mod credentials;
mod gateway;
mod image;
mod issuer;
mod login;
mod roles;
mod vault;
mod workspace;

use std::path::PathBuf;

use broker::AfterRemoval;
use clap::{Args, Parser, Subcommand};

use crate::failure::EXIT_CODES;

pub(crate) use audit::{AuditCommand, BlastArgs};
pub(crate) use credentials::{CredentialsCommand, HelperCommand};
pub(crate) use gateway::{
    ContainersCommand, ContextAddArgs, ContextCommand, GatewayArg, LogsArgs, TasksCommand,
    TokensCommand,
};
pub(crate) use image::{CacheCommand, ImageArg, ImageCommand, WarmArgs};
pub(crate) use issuer::IssuerCommand;
pub(crate) use login::{KeylessArgs, LoginArgs};
pub(crate) use roles::{
    GatewayArgs, ListenArgs, ServeArgs, WorkerCommand, WorkerLimits, WorkerRunArgs,
    WorkerServerArgs,
};
pub(crate) use vault::{StateCommand, VaultCommand};
pub(crate) use workspace::WorkspaceCommand;

/// Run functions and commands in private container images, on your own machines.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = EXIT_CODES
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where Holdfast keeps its state, and how it answers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// Configuration file [default: /etc/holdfast/holdfast.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE", env = "HOLDFAST_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of databases, indexes and cache [default: /var/lib/holdfast]
    #[arg(long, global = true, value_name = "DIR", env = "HOLDFAST_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the root key comes from: a file outside the data directory, `credential:NAME` of the
    /// service manager, the open file `fd:NUMBER`, or a key that stays in its service:
    /// `aws-kms:ARN` or `vault-transit:https://HOST[:PORT]/MOUNT/NAME`
    /// [default: /etc/holdfast/root.key]
    #[arg(
        long,
        global = true,
        value_name = "SOURCE",
        env = "HOLDFAST_ROOT_KEY",
        verbatim_doc_comment
    )]
    pub(crate) root_key: Option<PathBuf>,
    /// Directory of running containers and what they write [default: run in the data directory]
    #[arg(long, global = true, value_name = "DIR", env = "HOLDFAST_RUN_DIR")]
    pub(crate) run_dir: Option<PathBuf>,
    /// URL of the issuer of identity tokens, where clouds find its keys [default: none]
    #[arg(long, global = true, value_name = "URL", env = "HOLDFAST_ISSUER_URL")]
    pub(crate) issuer_url: Option<String>,
    /// Workspace that credentials and images belong to
    #[arg(long, global = true, value_name = "NAME", env = "HOLDFAST_WORKSPACE")]
    pub(crate) workspace: Option<String>,
    /// Print one stable JSON object; errors become JSON on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command in an image, starting before the image is here
    Run(Box<RunArgs>),
    /// Check a registry credential and seal it
    Login(Box<LoginArgs>),
    /// Remove a credential; new starts are refused at once
    Logout(LogoutArgs),
    /// Look at credentials: list, check, explain, history, rotate, detect, share, unshare
    #[command(subcommand)]
    Credentials(CredentialsCommand),
    /// Answer docker and podman as their credential helper, also under the name
    /// docker-credential-holdfast
    #[command(subcommand)]
    CredentialHelper(HelperCommand),
    /// Answer Kubernetes' kubelet as its credential provider plugin
    KubeletCredentialProvider,
    /// Work with images: index, inspect, mount, verify, list, warm
    #[command(subcommand)]
    Image(ImageCommand),
    /// Look at the cache of decoded spans, and make room
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Keep named secrets of a workspace
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Show how an image name is read
    Reference(ReferenceArgs),
    /// List running containers
    Ps,
    /// Stop running containers
    Stop(StopArgs),
    /// Serve programs that call this installation, and run their functions on this machine
    ///
    /// The first start makes a token for them: a terminal is shown it once, and otherwise the file
    /// is named that holds it, first-token in the data directory.
    Serve(ServeArgs),
    /// Serve programs that call this installation, and leave their functions to other machines
    Gateway(GatewayArgs),
    /// Run functions for a gateway, and keep the workers of one: token, run, list, drain, remove
    #[command(subcommand)]
    Worker(WorkerCommand),
    /// Look at workspaces and set what is theirs: list, show, set
    #[command(subcommand)]
    Workspace(WorkspaceCommand),
    /// Keep the API tokens of a workspace: create, list, enable, disable, rm
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Look at the calls of functions: list, show, cancel
    #[command(subcommand)]
    Tasks(TasksCommand),
    /// Show what a call prints
    Logs(LogsArgs),
    /// Look at the containers of functions: list, stop
    #[command(subcommand)]
    Containers(ContainersCommand),
    /// Keep the gateways that you call, by name: list, add, use, show, remove
    #[command(subcommand)]
    Context(ContextCommand),
    /// Say what this machine lacks and how to mend it
    Doctor,
    /// Keep the issuer of identity tokens, by which clouds know workspaces: show, export, rotate
    #[command(subcommand)]
    Issuer(IssuerCommand),
    /// Ask the audit log: blast
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Check, re-key, shred, back up and restore the vault
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Back up and restore the state: images, functions, calls, API tokens
    #[command(subcommand)]
    State(StateCommand),
    /// Serve one mounted image (started by holdfast itself)
    #[command(hide = true)]
    MountServer,
    /// Take a mount off whose owner was killed (started by holdfast itself)
    #[command(hide = true)]
    MountJanitor {
        /// Where the owner mounts
        directory: PathBuf,
    },
    /// Run containers of functions for a control plane (started by holdfast itself)
    #[command(hide = true)]
    WorkerServer(WorkerServerArgs),
    /// Index one layer from a pipe (started by holdfast itself)
    #[command(hide = true)]
    LayerIndexer {
        /// Write decoded bytes to file descriptor 4, up to so many
        #[arg(long)]
        fill_cache: Option<u64>,
    },
}

/// What `holdfast run` takes, with the habits of docker's `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Image to run
    pub(crate) image: String,
    /// Command and arguments in place of the image's own
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    pub(crate) command: Vec<String>,
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Set an environment variable; a bare K takes its value from yours
    #[arg(short, long, value_name = "K=V")]
    pub(crate) env: Vec<String>,
    /// Bind-mount a host path: SRC:DST, read-only with :ro
    #[arg(short, long, value_name = "SRC:DST[:ro]")]
    pub(crate) volume: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User, as name or uid, with an optional :group
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Publish a port of the container on the host, on all addresses unless one is given
    #[arg(short = 'p', long, value_name = "[ADDR:]HOST:CONTAINER")]
    pub(crate) publish: Vec<String>,
    /// Name shown by `ps` and taken by `stop`
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Replace the image's entrypoint
    #[arg(long, value_name = "CMD")]
    pub(crate) entrypoint: Option<String>,
    /// Remove the container afterwards (always so; accepted for habit)
    #[arg(long)]
    pub(crate) rm: bool,
    /// Size of /dev/shm, such as 256m
    #[arg(long, value_name = "SIZE", default_value = "64m")]
    pub(crate) shm_size: String,
    /// Limit of memory, such as 512m or 2g
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Limit of processor time, in cores, such as 0.5
    #[arg(long, value_name = "CORES")]
    pub(crate) cpus: Option<f64>,
    /// Limit of processes and threads, at least 16
    #[arg(long, value_name = "N")]
    pub(crate) pids_limit: Option<u32>,
    /// Network of the container
    #[arg(long, value_name = "none|nat|host", default_value = "nat")]
    pub(crate) network: String,
    /// Whose user ids the container has: its own, or the machine's [default: private]
    #[arg(long, value_name = "private|host")]
    pub(crate) userns: Option<String>,
    /// Bring the rest of the image into the cache while nothing is read of it, from half a minute
    /// after the start on, or never [default: idle]
    #[arg(long, value_name = "idle|never")]
    pub(crate) fill: Option<String>,
    /// Credential to use: a scope of `credentials list`, or none for an anonymous pull
    #[arg(long, value_name = "SCOPE|none")]
    pub(crate) credential: Option<String>,
    /// Print the phases of the start afterwards
    #[arg(long)]
    pub(crate) timing: bool,
    /// Write the phases of the start to a file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) timing_json: Option<PathBuf>,
    /// Refused by name: GPUs are not supported
    #[arg(long, hide = true)]
    pub(crate) gpus: Option<String>,
    /// Refused by name: containers run in the foreground
    #[arg(short, long, hide = true)]
    pub(crate) detach: bool,
    /// Refused by name: full privileges are not given
    #[arg(long, hide = true)]
    pub(crate) privileged: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// Scope to remove, as `credentials list` shows it
    pub(crate) scope: String,
    /// What becomes of containers that run with it, within seconds: continue with what they have,
    /// drain (finish their calls and get no new ones), or kill (their callers are told why)
    /// [default: what the workspace has set, else continue]
    #[arg(long, value_name = "continue|drain|kill", value_parser = parse_after_removal)]
    pub(crate) running: Option<AfterRemoval>,
}

fn parse_after_removal(text: &str) -> Result<AfterRemoval, String> {
    AfterRemoval::from_name(text).ok_or_else(|| "continue, drain or kill".to_owned())
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Seal a value read from standard input
    Set {
        /// Name of the secret
        name: String,
    },
    /// List names and versions
    List,
    /// Remove a secret
    Rm {
        /// Name of the secret
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ReferenceArgs {
    /// Image name
    pub(crate) image: String,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Containers, by name or id
    #[arg(required = true)]
    pub(crate) containers: Vec<String>,
    /// Seconds to wait before killing
    #[arg(short, long, default_value_t = 10)]
    pub(crate) time: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_leaves_the_flags_of_the_command_alone() {
        let cli = Cli::try_parse_from(["holdfast", "run", "-it", "img", "ls", "-l", "--json"]);
        let Command::Run(run) = cli.expect("parses").command else {
            panic!("run expected")
        };
        assert!(run.interactive && run.tty);
        assert_eq!(run.command, ["ls", "-l", "--json"]);
        let cli = Cli::try_parse_from(["holdfast", "run", "img", "--", "ls", "-l"]);
        let Command::Run(run) = cli.expect("parses").command else {
            panic!("run expected")
        };
        assert_eq!(run.command, ["ls", "-l"]);
    }

    #[test]
    fn a_password_is_never_an_argument() {
        for words in [
            vec![
                "holdfast",
                "login",
                "r.io",
                "--username",
                "u",
                "--password",
                "p",
            ],
            vec!["holdfast", "login", "r.io", "-p", "x"],
        ] {
            assert!(Cli::try_parse_from(words).is_err());
        }
    }
}
