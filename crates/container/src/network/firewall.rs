//! Firewalls of others: what our table accepts still needs the word of every other chain that
//! looks at the same packets.

use serde_json::Value;

use super::link::INTERFACE_PREFIX;
use crate::tool::{ToolError, run_script};

/// A chain that drops what is routed unless a rule says otherwise, as Docker and ufw make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardDrop {
    /// Family, table and name, as nft takes them.
    pub chain: String,
}

impl ForwardDrop {
    fn is_mended(&self) -> Result<bool, ToolError> {
        let mut words = vec!["list", "chain"];
        words.extend(self.chain.split(' '));
        let output = run_script("nft", &words, "", None)?;
        let rules = String::from_utf8_lossy(&output.stdout);
        Ok(rules.contains(&format!("iifname \"{INTERFACE_PREFIX}*\" accept")))
    }

    /// The command that lets containers through.
    pub fn fix(&self) -> String {
        let (chain, ours) = (&self.chain, format!("'\"{INTERFACE_PREFIX}*\"'"));
        format!(
            "nft insert rule {chain} iifname {ours} accept && \
             nft insert rule {chain} oifname {ours} ct state established,related accept"
        )
    }
}

/// Chains that would drop what containers send, but for those that let it through by a rule.
pub fn forward_drops() -> Result<Vec<ForwardDrop>, ToolError> {
    let output = run_script("nft", &["--json", "list", "chains"], "", None)?;
    let listing = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let mut found = Vec::new();
    for drop in drops_in(&listing) {
        if !drop.is_mended()? {
            found.push(drop);
        }
    }
    Ok(found)
}

fn drops_in(listing: &Value) -> Vec<ForwardDrop> {
    let objects = listing["nftables"].as_array().map(Vec::as_slice);
    let chains = objects
        .unwrap_or_default()
        .iter()
        .map(|object| &object["chain"]);
    let drops = chains.filter(|chain| {
        let meets_ours = matches!(chain["family"].as_str(), Some("ip" | "inet"));
        meets_ours && chain["hook"] == "forward" && chain["policy"] == "drop"
    });
    drops
        .map(|chain| {
            let parts = ["family", "table", "name"].map(|part| chain[part].as_str());
            let parts = parts.map(Option::unwrap_or_default);
            ForwardDrop {
                chain: parts.join(" "),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chains_that_drop_what_is_routed_count() {
        let listing = serde_json::json!({ "nftables": [
            { "metainfo": { "version": "1.0.6" } },
            { "chain": { "family": "ip", "table": "filter", "name": "FORWARD",
                         "hook": "forward", "policy": "drop" } },
            { "chain": { "family": "ip6", "table": "filter", "name": "FORWARD",
                         "hook": "forward", "policy": "drop" } },
            { "chain": { "family": "inet", "table": "holdfast", "name": "forward",
                         "hook": "forward", "policy": "accept" } },
            { "chain": { "family": "ip", "table": "filter", "name": "INPUT",
                         "hook": "input", "policy": "drop" } },
            { "chain": { "family": "ip", "table": "filter", "name": "DOCKER" } },
        ] });
        let drops = drops_in(&listing);
        assert_eq!(drops.len(), 1);
        assert_eq!(drops[0].chain, "ip filter FORWARD");
        assert_eq!(
            drops[0].fix(),
            "nft insert rule ip filter FORWARD iifname '\"hfv*\"' accept && \
             nft insert rule ip filter FORWARD oifname '\"hfv*\"' ct state established,related \
             accept"
        );
        assert_eq!(drops_in(&Value::Null), []);
    }
}
