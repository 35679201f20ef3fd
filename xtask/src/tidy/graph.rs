//! The dependency graph as cargo resolves it for this machine, reduced to what the rules ask.
//!
//! Members come from `cargo metadata`. What is really built comes from `cargo tree`, because the
//! former also lists optional packages that no feature switches on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// One of our crates.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// Path of its manifest, relative to the top.
    pub(super) manifest: String,
    /// `[package.metadata.holdfast] layer`; absent for what is not shipped.
    pub(super) layer: Option<u64>,
    /// Direct dependencies by package name, ours and others'; building counts as using.
    pub(super) normal: BTreeSet<String>,
    /// As `normal`, for tests and examples only.
    pub(super) dev: BTreeSet<String>,
}

#[derive(Debug)]
pub(super) struct Graph {
    pub(super) members: BTreeMap<String, Member>,
    /// Every package that is built on this machine, for whatever reason.
    pub(super) built: BTreeSet<String>,
}

impl Graph {
    pub(super) fn load(root: &Path) -> Result<Self> {
        let mut command = process::command("cargo", &["metadata", "--format-version=1"]);
        let text = process::capture(command.arg("--no-deps").current_dir(root))?;
        let metadata = serde_json::from_str(&text).context("cargo metadata printed no JSON")?;
        let members = Self::parse_members(&metadata).context("cargo metadata has another shape")?;
        let mut command = process::command("cargo", &["tree", "--workspace", "--prefix=none"]);
        let tree = process::capture(command.arg("--edges=normal,build,dev").current_dir(root))?;
        Ok(Self {
            members,
            built: Self::parse_tree(&tree),
        })
    }

    fn parse_members(metadata: &Value) -> Option<BTreeMap<String, Member>> {
        let top = metadata["workspace_root"].as_str()?;
        let packages = metadata["packages"].as_array()?;
        packages
            .iter()
            .map(|package| Member::parse(package, top).map(|member| (member.name.clone(), member)))
            .collect()
    }

    /// Lines are `name v1.2.3 …`, or blank between the crates of the workspace.
    fn parse_tree(text: &str) -> BTreeSet<String> {
        text.lines()
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect()
    }

    pub(super) fn crate_names(&self) -> Vec<String> {
        self.members.keys().cloned().collect()
    }

    /// Our crates that `name` reaches through normal dependencies, itself not among them.
    pub(super) fn closure(&self, name: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![name];
        while let Some(next) = waiting.pop() {
            let Some(member) = self.members.get(next) else {
                continue;
            };
            for dependency in &member.normal {
                if self.members.contains_key(dependency) && reached.insert(dependency.as_str()) {
                    waiting.push(dependency);
                }
            }
        }
        reached
    }
}

impl Member {
    fn parse(package: &Value, top: &str) -> Option<Self> {
        let manifest = package["manifest_path"].as_str()?;
        let manifest = manifest
            .strip_prefix(top)
            .unwrap_or(manifest)
            .trim_start_matches('/');
        let mut member = Self {
            name: package["name"].as_str()?.to_owned(),
            manifest: manifest.to_owned(),
            layer: package["metadata"]["holdfast"]["layer"].as_u64(),
            normal: BTreeSet::new(),
            dev: BTreeSet::new(),
        };
        for dependency in package["dependencies"].as_array()? {
            let name = dependency["name"].as_str()?.to_owned();
            match dependency["kind"].as_str() {
                Some("dev") => member.dev.insert(name),
                _ => member.normal.insert(name),
            };
        }
        Some(member)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Graph;

    #[test]
    fn reads_members_and_what_is_built() {
        let metadata = json!({
            "workspace_root": "/top",
            "packages": [
                {"name": "a", "manifest_path": "/top/crates/a/Cargo.toml",
                 "metadata": {"holdfast": {"layer": 3}},
                 "dependencies": [{"name": "b", "kind": null}, {"name": "t", "kind": "dev"}]},
                {"name": "b", "manifest_path": "/top/crates/b/Cargo.toml",
                 "metadata": null, "dependencies": [{"name": "c", "kind": "build"}]},
            ],
        });
        let members = Graph::parse_members(&metadata).unwrap();
        let tree = "a v0.1.0 (/top/crates/a)\nc v1.0.0\n\nb v0.1.0 (/top/crates/b)\nc v1.0.0 (*)\n";
        let graph = Graph {
            members,
            built: Graph::parse_tree(tree),
        };
        assert_eq!(graph.crate_names(), ["a", "b"]);
        assert_eq!(graph.members["a"].layer, Some(3));
        assert_eq!(graph.members["a"].manifest, "crates/a/Cargo.toml");
        assert!(graph.members["a"].dev.contains("t") && graph.members["b"].normal.contains("c"));
        assert_eq!(graph.closure("a").into_iter().collect::<Vec<_>>(), ["b"]);
        assert_eq!(graph.built.iter().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(Graph::parse_members(&json!({})).is_none());
    }
}
