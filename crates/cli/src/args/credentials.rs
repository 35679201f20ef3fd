//! What `credentials` takes, and what programs ask that credentials are handed out to.

use broker::Recipient;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum CredentialsCommand {
    /// List credentials and their state
    List,
    /// Ask the registries whether the credentials still work
    Check {
        /// Only this scope
        scope: Option<String>,
    },
    /// Say which credential an image would use, and why
    Explain {
        /// Image to explain
        image: String,
    },
    /// Show the versions and uses of a credential
    History {
        /// Scope, as `credentials list` shows it
        scope: String,
    },
    /// Replace the secret of a credential, keeping its settings
    ///
    /// The new one is tried first with every repository in use that is read with the old one, and
    /// takes its place where it reads them all.
    Rotate {
        /// Scope, as `credentials list` shows it
        scope: String,
        /// User name, where it changes too
        #[arg(short, long)]
        username: Option<String>,
        /// Read the new password or token from standard input
        #[arg(long, required_unless_present = "undo")]
        password_stdin: bool,
        /// Take the version before the current one again, as a new version: it is there as long as
        /// something reads with it
        #[arg(long, conflicts_with_all = ["password_stdin", "username"])]
        undo: bool,
        /// Only try it, and say what would break
        #[arg(long)]
        dry_run: bool,
        /// Take it whatever breaks; what the registry refuses altogether is never taken
        #[arg(long, conflicts_with = "dry_run")]
        force: bool,
    },
    /// Hand a credential out to programs of others, from now on
    Share {
        /// Scope, as `credentials list` shows it
        scope: String,
        /// Who is given it: docker (and podman, by the credential helper) or kubelet
        #[arg(long, value_name = "docker|kubelet", value_parser = parse_recipient)]
        with: Recipient,
    },
    /// Hand a credential out no longer
    Unshare {
        /// Scope, as `credentials list` shows it
        scope: String,
        /// Who was given it
        #[arg(long, value_name = "docker|kubelet", value_parser = parse_recipient)]
        with: Recipient,
    },
    /// Tell what kind of credential a JSON object on standard input is
    Detect {
        /// Registry or image that the credential is for
        #[arg(long, value_name = "HOST")]
        registry: String,
    },
}

/// What docker asks of a credential helper. It speaks over standard input and output.
#[derive(Debug, Subcommand)]
pub(crate) enum HelperCommand {
    /// Print the credential that is shared for a registry, whose name is read
    Get,
    /// Check and seal a credential, as `login` does
    Store,
    /// Remove the credential of a registry, as `logout` does
    Erase,
    /// Print the registries whose credentials are shared, with their user names
    List,
    /// Print the version
    Version,
}

fn parse_recipient(text: &str) -> Result<Recipient, String> {
    Recipient::from_name(text).ok_or_else(|| "docker or kubelet".to_owned())
}
