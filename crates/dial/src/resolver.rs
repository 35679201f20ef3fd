//! Resolving a name and judging each address, so that what was judged is what is connected to.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::error::DialError;
use crate::policy::Judge;

/// Addresses considered for one name. More is a way to make us try for hours.
const MAX_ADDRESSES: usize = 16;

/// Addresses of names in place of the system's; `None` for a name that the system is to be asked
/// about. What a name leads to may change from one question to the next, as with a real one.
pub(crate) type Names = Arc<dyn Fn(&str) -> Option<Vec<IpAddr>> + Send + Sync>;

/// The system knows all names.
pub(crate) fn of_the_system() -> Names {
    Arc::new(|_| None)
}

/// A resolver behind the address policy.
pub(crate) struct PolicyResolver {
    pub(crate) judge: Arc<Judge>,
    pub(crate) names: Names,
}

impl Resolve for PolicyResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (judge, names) = (Arc::clone(&self.judge), Arc::clone(&self.names));
        Box::pin(async move {
            let addresses = resolve_judged(&judge, &names, name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Resolves nothing but the operator's proxies, and those without judgement: a client that goes
/// through a proxy can then reach nothing else, whatever the matching rules say.
pub(crate) struct ProxyResolver {
    pub(crate) hosts: BTreeSet<String>,
}

impl Resolve for ProxyResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let known = self.hosts.contains(&name.as_str().to_ascii_lowercase());
        Box::pin(async move {
            let host = name.as_str().to_owned();
            if !known {
                let message = "not a proxy of this process".to_owned();
                return Err(DialError::Unreachable { host, message }.into());
            }
            let names = of_the_system();
            Ok(Box::new(resolve(&names, &host).await?.into_iter()) as Addrs)
        })
    }
}

/// The addresses of a name that the policy admits; an error when there are none.
pub(crate) async fn resolve_judged(
    judge: &Judge,
    names: &Names,
    host: &str,
) -> Result<Vec<SocketAddr>, DialError> {
    let mut refused = None;
    let mut admitted = Vec::new();
    for address in resolve(names, host).await? {
        match judge.admit(host, address.ip()) {
            Ok(()) => admitted.push(address),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    match (admitted.is_empty(), refused) {
        (true, Some(error)) => Err(error),
        _ => Ok(admitted),
    }
}

async fn resolve(names: &Names, host: &str) -> Result<Vec<SocketAddr>, DialError> {
    let unreachable = |message: String| DialError::Unreachable {
        host: host.to_owned(),
        message,
    };
    if let Some(addresses) = names(host) {
        let addresses = addresses.into_iter().take(MAX_ADDRESSES);
        return Ok(addresses.map(|address| (address, 0).into()).collect());
    }
    let found = tokio::net::lookup_host((host, 0))
        .await
        .map_err(|error| unreachable(format!("name does not resolve: {error}")))?;
    let addresses: Vec<SocketAddr> = found.take(MAX_ADDRESSES).collect();
    if addresses.is_empty() {
        return Err(unreachable("name has no address".to_owned()));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{AddressPolicy, DialPolicy};

    #[tokio::test]
    async fn a_name_that_leads_home_is_refused_unless_named() {
        let judge = |host: &str| Judge::new(&DialPolicy::default(), &AddressPolicy::for_host(host));
        let names = of_the_system();
        let error = resolve_judged(&judge("ghcr.io"), &names, "localhost")
            .await
            .unwrap_err();
        assert!(matches!(error, DialError::Denied { .. }), "{error}");
        assert!(
            resolve_judged(&judge("localhost"), &names, "localhost")
                .await
                .is_ok()
        );
    }
}
