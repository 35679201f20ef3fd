//! Which gateway a command asks, and as whom.
//!
//! ```text
//!   --gateway, HOLDFAST_GATEWAY ─▶ that one
//!   --context, HOLDFAST_CONTEXT ─▶ the one of that name
//!   a `serve` of this data directory that lets us in ─▶ its socket
//!   --data-dir, HOLDFAST_DATA_DIR ─▶ its socket, which does not answer
//!   the current context ─▶ that one, where there is one; else the socket
//! ```
//!
//! A context's token and authority are for that context's gateway and for no other, whatever else
//! is named. A token does not leave the machine in the clear unless somebody wrote that it may.

use std::path::PathBuf;

use credential::SecretString;

use super::{Context, Contexts, check_token};
use crate::args::GatewayArg;
use crate::failure::{Failure, Kind, Result};
use crate::gateway_url::GatewayUrl;

pub(crate) const CONTEXT_VARIABLE: &str = "HOLDFAST_CONTEXT";
const TOKEN_VARIABLE: &str = "HOLDFAST_TOKEN";
const PLAIN_HTTP_VARIABLE: &str = "HOLDFAST_ALLOW_TOKEN_OVER_PLAIN_HTTP";

/// What is asked.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The gateway of this data directory, by its socket.
    Own,
    Named(Connection),
}

/// A gateway, and what it is called with.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) gateway: GatewayUrl,
    pub(crate) token: SecretString,
    pub(crate) ca_file: Option<PathBuf>,
}

/// What was typed, and what the environment says.
#[derive(Debug, Default)]
struct Given {
    gateway: Option<String>,
    context: Option<Named>,
    ca_file: Option<PathBuf>,
    token: Option<SecretString>,
    allow_plain_http: bool,
}

/// A context, named.
#[derive(Debug)]
enum Named {
    Typed(String),
    ByEnvironment(String),
}

impl Named {
    fn name(&self) -> &str {
        match self {
            Self::Typed(name) | Self::ByEnvironment(name) => name,
        }
    }
}

/// What of this data directory there is to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnGateway {
    Answers,
    /// It was named, and nothing else is meant.
    IsMeant,
    DoesNotAnswer,
}

pub(crate) fn choose(
    argument: &GatewayArg,
    own: impl FnOnce() -> OwnGateway,
    read: impl FnOnce() -> Result<Contexts>,
) -> Result<Asked> {
    let given = Given {
        gateway: argument.gateway.clone().filter(|url| !url.is_empty()),
        context: match &argument.context {
            Some(name) => Some(Named::Typed(name.clone())),
            None => variable(CONTEXT_VARIABLE).map(Named::ByEnvironment),
        },
        ca_file: argument.ca_file.clone(),
        token: variable(TOKEN_VARIABLE).map(|text| text.trim().into()),
        allow_plain_http: variable(PLAIN_HTTP_VARIABLE).as_deref() == Some("1"),
    };
    given.choose(own, read)
}

/// What the environment has under this name, if that is anything.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

impl Given {
    fn choose(
        self,
        own: impl FnOnce() -> OwnGateway,
        read: impl FnOnce() -> Result<Contexts>,
    ) -> Result<Asked> {
        let is_named = self.gateway.is_some() || self.context.is_some();
        if !is_named && own() != OwnGateway::DoesNotAnswer {
            return Ok(Asked::Own);
        }
        let contexts = read()?;
        let context = match &self.context {
            Some(named) => Some(contexts.context(named.name())?),
            None => match contexts.current()? {
                Some(name) => Some(contexts.context(&name)?),
                None => None,
            },
        };
        if !is_named && context.is_none() {
            return Ok(Asked::Own);
        }
        self.connection(context).map(Asked::Named)
    }

    fn connection(self, context: Option<Context>) -> Result<Connection> {
        let named = self.gateway.as_deref().map(GatewayUrl::parse).transpose()?;
        let of_context = context.as_ref().map(|context| context.gateway.clone());
        let gateway = named.or_else(|| of_context.clone());
        let gateway = gateway.expect("a gateway or a context is named");
        let context = context.filter(|context| context.gateway == gateway);
        if let (None, Some(Named::Typed(name))) = (&context, &self.context) {
            let message = format!("context {name:?} is not {gateway}, which is named too");
            let hint = "leave out --context, or --gateway and HOLDFAST_GATEWAY";
            return Err(Failure::invalid(message).hint(hint));
        }
        let allow_plain_http =
            self.allow_plain_http || context.as_ref().is_some_and(|found| found.allow_plain_http);
        check_way(&gateway, allow_plain_http)?;
        let (token, ca_file) = match context {
            Some(context) => (context.token, context.ca_file),
            None => (None, None),
        };
        let token = self.token.or(token).ok_or_else(|| no_token(&gateway))?;
        check_token(&token)?;
        Ok(Connection {
            gateway,
            token,
            ca_file: self.ca_file.or(ca_file),
        })
    }
}

/// A token goes over the network encrypted, or where it may be read.
pub(crate) fn check_way(gateway: &GatewayUrl, allow_plain_http: bool) -> Result<()> {
    if !gateway.is_clear() || gateway.is_on_this_machine() || allow_plain_http {
        return Ok(());
    }
    let message = format!(
        "{gateway} is not on this machine, and over plain http everyone on the way reads the token"
    );
    let hint = format!(
        "name the gateway by https://, or set {PLAIN_HTTP_VARIABLE}=1 where the network is trusted"
    );
    Err(Failure::invalid(message).hint(hint))
}

fn no_token(gateway: &GatewayUrl) -> Failure {
    let hint = format!(
        "`holdfast tokens create NAME`, where the gateway runs, makes one; {TOKEN_VARIABLE} holds \
         it, or `holdfast context add`"
    );
    Failure::new(Kind::Invalid, format!("no token for {gateway}")).hint(hint)
}

#[cfg(test)]
mod tests;
