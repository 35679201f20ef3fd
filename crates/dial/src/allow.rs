//! The operator's allow-list: networks and host names that may be dialled whatever their class.
//!
//! A rule is written as a network (`10.0.0.0/8`), an address, or a host name (exact, no wildcard).
//! Only the operator's configuration makes rules; nothing that a user or a registry says does.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// One line of the operator's allow-list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AllowRule(Rule);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Rule {
    Network { base: IpAddr, prefix: u8 },
    Host(String),
}

/// Why a line is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("allow rule {0:?} is neither a network, an address nor a host name")]
pub struct ParseAllowRuleError(String);

impl AllowRule {
    /// This address alone.
    pub(crate) fn of_address(base: IpAddr) -> Self {
        let prefix = if base.is_ipv4() { 32 } else { 128 };
        Self(Rule::Network { base, prefix })
    }

    /// Whether this rule allows to connect to `address` for a URL whose host is `host`.
    pub fn allows(&self, host: &str, address: IpAddr) -> bool {
        match &self.0 {
            Rule::Network { base, prefix } => within(*base, *prefix, address.to_canonical()),
            Rule::Host(name) => name.eq_ignore_ascii_case(host.trim_end_matches('.')),
        }
    }
}

fn within(base: IpAddr, prefix: u8, address: IpAddr) -> bool {
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(base), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            base.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

impl FromStr for AllowRule {
    type Err = ParseAllowRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let error = || ParseAllowRuleError(text.chars().take(64).collect());
        if let Some((base, prefix)) = text.split_once('/') {
            let base: IpAddr = base.parse().map_err(|_| error())?;
            let prefix: u8 = prefix.parse().map_err(|_| error())?;
            let longest = if base.is_ipv4() { 32 } else { 128 };
            if prefix > longest {
                return Err(error());
            }
            return Ok(Self(Rule::Network { base, prefix }));
        }
        if let Ok(base) = text.parse::<IpAddr>() {
            return Ok(Self::of_address(base));
        }
        if is_host_name(text) {
            return Ok(Self(Rule::Host(text.to_ascii_lowercase())));
        }
        Err(error())
    }
}

fn is_host_name(text: &str) -> bool {
    let label = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

impl fmt::Display for AllowRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::Network { base, prefix } => write!(formatter, "{base}/{prefix}"),
            Rule::Host(name) => formatter.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_allow_what_they_name_and_nothing_else() {
        let cases = [
            ("10.0.0.0/8", "x", "10.255.0.1", true),
            ("10.0.0.0/8", "x", "11.0.0.1", false),
            ("0.0.0.0/0", "x", "169.254.169.254", true),
            ("169.254.169.254", "x", "169.254.169.254", true),
            ("169.254.169.254", "x", "169.254.169.253", false),
            ("fd00::/8", "x", "fd00::1", true),
            ("fd00::/8", "x", "fe80::1", false),
            ("::/0", "x", "10.0.0.1", false),
            ("10.0.0.0/8", "x", "::ffff:10.0.0.1", true),
            (
                "Registry.Corp.Example",
                "registry.corp.example",
                "10.0.0.1",
                true,
            ),
            (
                "registry.corp.example",
                "registry.corp.example.",
                "10.0.0.1",
                true,
            ),
            (
                "registry.corp.example",
                "a.registry.corp.example",
                "10.0.0.1",
                false,
            ),
        ];
        for (rule, host, address, expected) in cases {
            let parsed: AllowRule = rule.parse().expect("rule");
            let address = address.parse().expect("address");
            assert_eq!(
                parsed.allows(host, address),
                expected,
                "{rule} {host} {address}"
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/x",
            "*.corp",
            "a..b",
            "http://x",
            "a b",
            "::/129",
        ] {
            assert!(text.parse::<AllowRule>().is_err(), "{text:?}");
        }
    }
}
