//! What `login` takes. The group says that there is one source of a secret, or none is needed.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("secret")
    .args([
        "password_stdin", "token_stdin", "service_account_file", "from_env", "from_docker",
        "keyless", "node_identity",
    ]).required(true))]
pub(crate) struct LoginArgs {
    /// Registry, or registry and path, that the credential is for; several with --from-docker
    #[arg(value_name = "SCOPE", required_unless_present = "from_docker")]
    pub(crate) scopes: Vec<String>,
    /// User name that goes with --password-stdin
    #[arg(short, long, requires = "password_stdin")]
    pub(crate) username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
    /// Read a ready registry token from standard input
    #[arg(long)]
    pub(crate) token_stdin: bool,
    /// File with the JSON key of a Google service account
    #[arg(long, value_name = "FILE")]
    pub(crate) service_account_file: Option<PathBuf>,
    /// Names of environment variables that hold the credential, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "KEY,…")]
    pub(crate) from_env: Vec<String>,
    #[command(flatten)]
    pub(crate) keyless: KeylessArgs,
    /// Store no secret: use the identity of the machine that runs this installation, which its
    /// operator grants to this workspace under `[node_identity.NAME]` of the configuration
    #[arg(long, value_name = "NAME",
          conflicts_with_all = ["ca_file", "plain_http", "token_service",
                                "workers_may_hold_password"])]
    pub(crate) node_identity: Option<String>,
    /// Take over logins of docker and podman, from their files and credential helpers; without a
    /// scope, list them
    #[arg(long)]
    pub(crate) from_docker: bool,
    /// Take over every login that is listed
    #[arg(long, requires = "from_docker", conflicts_with = "scopes")]
    pub(crate) all: bool,
    /// File of logins, or the JSON of a Kubernetes Secret of them; - is standard input [default:
    /// those of docker and podman]
    #[arg(long, value_name = "FILE", requires = "from_docker")]
    pub(crate) docker_config: Option<PathBuf>,
    /// Certificate authority of the registry and its token service (PEM)
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Speak plain http to this registry
    #[arg(long, conflicts_with = "all")]
    pub(crate) plain_http: bool,
    /// Host of a token service that may receive this credential
    #[arg(long, value_name = "HOST", conflicts_with = "all")]
    pub(crate) token_service: Option<String>,
    /// Let workers hold the password, or a token for all that it may do, where the registry takes
    /// nothing less [default: they read through the broker, which keeps it]
    #[arg(long, conflicts_with = "all")]
    pub(crate) workers_may_hold_password: bool,
}

/// Whom a cloud is to take this workspace for, by its issuer's word.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("trusting")
    .args(["aws_role_arn", "google_provider", "azure_client_id"]).requires("keyless"))]
pub(crate) struct KeylessArgs {
    /// Store no secret: the cloud trusts this installation's issuer (see `holdfast issuer show`)
    #[arg(long, requires = "trusting")]
    pub(crate) keyless: bool,
    /// Role of AWS
    #[arg(long, value_name = "ARN")]
    pub(crate) aws_role_arn: Option<String>,
    /// How its sessions are called [default: after the repository]
    #[arg(long, value_name = "NAME", requires = "aws_role_arn")]
    pub(crate) aws_role_session_name: Option<String>,
    /// Provider of a workload identity pool of Google's, projects/…/providers/…
    #[arg(long, value_name = "NAME")]
    pub(crate) google_provider: Option<String>,
    /// Service account that the pool's identity speaks for
    #[arg(long, value_name = "MAIL", requires = "google_provider")]
    pub(crate) google_service_account: Option<String>,
    /// Application of Azure's directory
    #[arg(long, value_name = "ID", requires = "azure_tenant_id")]
    pub(crate) azure_client_id: Option<String>,
    /// Tenant that the application is in
    #[arg(long, value_name = "ID", requires = "azure_client_id")]
    pub(crate) azure_tenant_id: Option<String>,
}
