//! The policy on where connections may go.
//!
//! Two voices decide. The operator's [`DialPolicy`] holds for every dial. The user's word for one
//! registry is an [`AddressPolicy`]: naming `127.0.0.1:5000` or `registry.internal` says that a
//! private place is meant. A registry's reply decides nothing: what it points to is judged by the
//! same two voices.

use std::net::IpAddr;

use crate::address::{AddressClass, Reach, classify};
use crate::allow::AllowRule;
use crate::error::DialError;
use crate::limits::Limits;
use crate::proxy::ProxySettings;

/// The operator's policy, the same for every dial of a process.
#[derive(Debug, Clone)]
pub struct DialPolicy {
    /// Networks and hosts that may be dialled whatever they are.
    pub allow: Vec<AllowRule>,
    /// Whether users may name private and loopback registries. A gateway that serves strangers
    /// says no, and allows its own by rule.
    pub users_may_name_private: bool,
    /// Proxies to use.
    pub proxies: ProxySettings,
    /// How long to wait.
    pub limits: Limits,
}

impl Default for DialPolicy {
    /// One machine, its own user, no proxies.
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            users_may_name_private: true,
            proxies: ProxySettings::none(),
            limits: Limits::default(),
        }
    }
}

/// Where connections for one registry may go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AddressPolicy {
    /// How far the user reached by naming the registry.
    pub reach: Reach,
}

impl AddressPolicy {
    /// The policy for a registry that the user named with this host (no port, no brackets).
    pub fn for_host(host: &str) -> Self {
        Self {
            reach: Reach::of_host(host),
        }
    }

    /// The same, where the user also gave the registry a CA or asked for plain http: private
    /// registries under a public-looking name are set up in just that way.
    #[must_use]
    pub fn configured_by_user(self) -> Self {
        Self {
            reach: self.reach.max(Reach::Private),
        }
    }
}

/// Both voices together, as the resolver and the client hold them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Judge {
    allow: Vec<AllowRule>,
    reach: Reach,
}

impl Judge {
    pub(crate) fn new(operator: &DialPolicy, user: &AddressPolicy) -> Self {
        let reach = if operator.users_may_name_private {
            user.reach
        } else {
            Reach::Public
        };
        Self {
            allow: operator.allow.clone(),
            reach,
        }
    }

    /// Whether `address` may be connected to for a URL whose host is `host`.
    pub(crate) fn admit(&self, host: &str, address: IpAddr) -> Result<(), DialError> {
        let class = classify(address);
        if self.reach.covers(class) || self.allow.iter().any(|rule| rule.allows(host, address)) {
            return Ok(());
        }
        let reason = match class {
            AddressClass::Forbidden(reason) => reason,
            AddressClass::Loopback => "a loopback address",
            AddressClass::Private => "an address of a private network",
            AddressClass::Public => "a public address",
        };
        Err(DialError::Denied {
            host: host.to_owned(),
            address,
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(policy: &DialPolicy, reach: Reach, address: &str) -> bool {
        let judge = Judge::new(policy, &AddressPolicy { reach });
        judge
            .admit("registry.example", address.parse().expect("address"))
            .is_ok()
    }

    #[test]
    fn the_user_reaches_as_far_as_was_named() {
        let policy = DialPolicy::default();
        assert!(admits(&policy, Reach::Public, "8.8.8.8"));
        assert!(!admits(&policy, Reach::Public, "10.0.0.1"));
        assert!(admits(&policy, Reach::Private, "10.0.0.1"));
        assert!(!admits(&policy, Reach::Private, "127.0.0.1"));
        assert!(admits(&policy, Reach::Loopback, "127.0.0.1"));
        assert!(!admits(&policy, Reach::Loopback, "169.254.169.254"));
        assert!(!admits(&policy, Reach::Loopback, "fd00:ec2::254"));
    }

    #[test]
    fn the_operator_outranks_the_user_both_ways() {
        let allow = vec!["169.254.169.254".parse().expect("rule")];
        let open = DialPolicy {
            allow,
            ..DialPolicy::default()
        };
        assert!(admits(&open, Reach::Public, "169.254.169.254"));
        let strict = DialPolicy {
            users_may_name_private: false,
            ..DialPolicy::default()
        };
        assert!(!admits(&strict, Reach::Loopback, "127.0.0.1"));
    }

    #[test]
    fn a_configured_registry_reaches_private_networks() {
        let policy = AddressPolicy::for_host("registry.example.com").configured_by_user();
        assert_eq!(policy.reach, Reach::Private);
        let policy = AddressPolicy::for_host("localhost").configured_by_user();
        assert_eq!(policy.reach, Reach::Loopback);
    }
}
