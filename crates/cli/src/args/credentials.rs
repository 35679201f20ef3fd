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
    Rotate {
        /// Scope, as `credentials list` shows it
        scope: String,
        /// User name, where it changes too
        #[arg(short, long)]
        username: Option<String>,
        /// Read the new password or token from standard input
        #[arg(long, required = true)]
        password_stdin: bool,
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
