//! Small images that can be run: a static busybox of the distribution, and what a test adds.

use registry_sim::{Entry, ImageBuilder, Layer};

const BUSYBOX: &str = "/bin/busybox";
const APPLETS: [&str; 14] = [
    "sh",
    "cat",
    "echo",
    "env",
    "id",
    "ls",
    "sleep",
    "true",
    "false",
    "pwd",
    "sha256sum",
    "ps",
    "kill",
    "wget",
];
const ACCOUNTS: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/tmp:/bin/sh\n";

/// An image of one layer whose command is `sh`.
pub fn busybox() -> ImageBuilder {
    busybox_with(&[])
}

/// The same with `more` in its one layer.
pub fn busybox_with(more: &[Entry]) -> ImageBuilder {
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    ImageBuilder::new()
        .platform("linux", architecture)
        .config("Cmd", serde_json::json!(["/bin/sh"]))
        .layer(base_layer(more))
}

fn base_layer(more: &[Entry]) -> Layer {
    let program = std::fs::read(BUSYBOX)
        .unwrap_or_else(|error| panic!("{BUSYBOX}: {error}: run `cargo xtask setup`"));
    let directories = ["bin", "etc", "root", "tmp"].map(Entry::directory);
    let applets = APPLETS.map(|name| Entry::symlink(&format!("bin/{name}"), "busybox"));
    let mut entries = directories.to_vec();
    entries.push(Entry::file("bin/busybox", program).mode(0o755));
    entries.extend(applets);
    entries.push(Entry::file("etc/passwd", ACCOUNTS));
    entries.push(Entry::file("etc/group", "root:x:0:\napp:x:1000:\n"));
    entries.extend_from_slice(more);
    Layer::gzip(&entries)
}
