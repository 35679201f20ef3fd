//! The command line as typed: flags, their help and nothing else.
//!
//! No value here is a secret: secrets come by standard input, file or the name of an environment
//! variable. What a flag means is decided in `commands`.

mod audit;
mod credentials;
mod issuer;
mod login;
mod workspace;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use broker::AfterRemoval;
use clap::{Args, Parser, Subcommand};
use ids::{ContainerId, TaskId, TokenId};
use jiff::SignedDuration;

use crate::contexts::parse_name;
use crate::failure::EXIT_CODES;

pub(crate) use audit::{AuditCommand, BlastArgs};
pub(crate) use credentials::{CredentialsCommand, HelperCommand};
pub(crate) use issuer::IssuerCommand;
pub(crate) use login::{KeylessArgs, LoginArgs};
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

#[derive(Debug, Args)]
pub(crate) struct WorkerServerArgs {
    /// What the control plane calls it
    #[arg(long)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) limits: WorkerLimits,
}

/// Without limits the worker takes what the machine has.
#[derive(Debug, Args)]
pub(crate) struct WorkerLimits {
    /// Thousandths of a core that its containers may have together
    #[arg(long)]
    pub(crate) cpu_millicores: Option<u32>,
    /// Memory that its containers may have together
    #[arg(long)]
    pub(crate) memory_bytes: Option<u64>,
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

#[derive(Debug, Args)]
pub(crate) struct ImageArg {
    /// Image to work on
    pub(crate) image: String,
    /// Credential to use: a scope of `credentials list`, or none for an anonymous pull
    #[arg(long, value_name = "SCOPE|none")]
    pub(crate) credential: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Read every layer once and index it
    Index(ImageArg),
    /// Show manifest, configuration and layers
    Inspect(ImageArg),
    /// Mount an image read-only until interrupted
    Mount {
        #[command(flatten)]
        image: ImageArg,
        /// Existing directory to mount on
        directory: PathBuf,
    },
    /// Check an image's indexes and cached spans against their digests
    Verify(ImageArg),
    /// List images known here
    List,
    /// Bring every layer of an image into the cache
    Warm(ImageArg),
    /// Bring every layer of an image into the cache and keep it there
    ///
    /// The image starts also while its registry does not answer, for as long as `workspace set
    /// --offline` allows. A registry that answers has the last word.
    Pin(ImageArg),
    /// Let the cache evict an image that was pinned by this name
    Unpin {
        /// Image, as it was pinned
        image: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show what the cache holds
    Du,
    /// Remove layers that no container uses and no pin keeps, oldest first
    Prune {
        /// Remove all of them
        #[arg(long, conflicts_with = "keep")]
        all: bool,
        /// Keep at most this much, such as 10g
        #[arg(long, value_name = "SIZE", required_unless_present = "all")]
        keep: Option<String>,
        /// Remove pinned layers too, and the pins of their images
        #[arg(long)]
        pinned: bool,
    },
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
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    /// Address and port to listen on for workers on other machines too, who prove by their keys
    /// who they are
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) workers: Option<SocketAddr>,
}

/// Where programs come to.
#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// Address and port to listen on; localhost is 127.0.0.1
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:7230",
        value_parser = parse_address
    )]
    pub(crate) listen: SocketAddr,
    /// Certificate for callers and what leads to its root (PEM): the port then speaks TLS alone
    #[arg(long, value_name = "FILE", env = "HOLDFAST_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of that certificate (PEM), which only its owner may read
    #[arg(long, value_name = "FILE", env = "HOLDFAST_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Listen beyond this machine without TLS, although tokens and secrets then cross the network
    /// in the clear
    #[arg(long)]
    pub(crate) allow_unencrypted: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
    /// Address and port to listen on for workers, who prove by their keys who they are
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) workers: SocketAddr,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// Make a token by which one worker may join this gateway, once
    Token {
        /// How long it counts, such as 30m or 2h
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = parse_life)]
        life: Duration,
        /// Write it to a new file that only its owner reads, instead of showing it
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Run functions on this machine for a gateway, until interrupted
    Run(WorkerRunArgs),
    /// List the workers that have joined this gateway
    List,
    /// Give a worker no new containers; those that it has go on
    Drain {
        /// Name or id of the worker
        worker: String,
        /// Give it containers again
        #[arg(long)]
        undo: bool,
    },
    /// Remove a worker: its leases end at once and its containers within seconds, it must join
    /// again, and what it was given is listed with what is to be rotated
    Remove {
        /// Name or id of the worker
        worker: String,
    },
}

/// The first time it joins, by a token from `holdfast worker token`, which is read from standard
/// input. Afterwards it is known by its key.
#[derive(Debug, Args)]
pub(crate) struct WorkerRunArgs {
    /// Where the gateway listens for workers
    #[arg(value_name = "HOST:PORT", value_parser = parse_host_and_port)]
    pub(crate) gateway: String,
    /// Read the token from this file instead; once the worker has joined it counts no more
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// What the worker is called when it joins [default: the name of this host]
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) limits: WorkerLimits,
}

fn parse_life(text: &str) -> Result<Duration, String> {
    let life: SignedDuration = text.parse().map_err(|_| "such as 30m or 2h".to_owned())?;
    Duration::try_from(life).map_err(|_| "a time to come".to_owned())
}

/// An address and a port. Nobody is asked what a name means, but for the one that everybody knows.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let local = text.strip_prefix("localhost:");
    let address = local.map(|port| format!("127.0.0.1:{port}"));
    let address = address.as_deref().unwrap_or(text).parse();
    address.map_err(|_| "an IP address, or localhost, and a port: 127.0.0.1:7230".to_owned())
}

fn parse_host_and_port(text: &str) -> Result<String, String> {
    let is_usable = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if is_usable {
        Ok(text.to_owned())
    } else {
        Err("a host and a port, such as gateway.example:7231".to_owned())
    }
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
    fn times_and_gateways_are_read_or_refused() {
        for (text, seconds) in [("1h", 3600), ("30m", 1800), ("90s", 90)] {
            assert_eq!(parse_life(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "1", "-1h", "soon"] {
            assert!(parse_life(text).is_err(), "{text}");
        }
        for text in ["gateway.example:7231", "10.0.0.1:1", "[::1]:7231"] {
            assert!(parse_host_and_port(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "gateway",
            ":7231",
            "gateway:",
            "gateway:0",
            "gateway:70000",
        ] {
            assert!(parse_host_and_port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_name_of_this_machine_is_an_address() {
        let parsed = |text| parse_address(text).map(|address| address.to_string());
        for (text, address) in [
            ("localhost:7230", "127.0.0.1:7230"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:7230", "[::1]:7230"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(address));
        }
        for text in [
            "localhost",
            "localhost:",
            "gateway.example:7230",
            "localhost:70000",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
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
