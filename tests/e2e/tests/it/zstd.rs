//! Layers of zstd as the tools of containers write them: by another encoder than zstd(1)'s.

use e2e::Home;
use registry_sim::debian::DebianRegistry;

use crate::functions::push_as;
use crate::support::{PASSWORD, USER};

/// One line about every file of the image's own tree: what stands in it, and where it is.
const ALL: &str = "find / -xdev -type f -not -path '/proc/*' -not -path '/etc/host*' \
                   -not -path '/etc/resolv.conf' -print0 | sort -z | xargs -0 sha256sum";

#[test]
fn layers_that_skopeo_compressed_by_zstd_read_like_those_of_gzip() {
    let registry = DebianRegistry::htpasswd(USER, PASSWORD);
    let home = Home::new();
    let trees = ["gzip", "zstd"].map(|format| {
        let repository = format!("acme/python-{format}");
        let image = format!("{}/{repository}:v1", registry.host());
        let more = format!("--dest-compress-format={format}");
        push_as(&image, &registry.skopeo_login(&repository), &[&more]);
        home.login(registry.host(), USER, PASSWORD).ok();
        let first = home.run(&["run", &image, "sh", "-c", ALL]).ok();
        home.run(&["cache", "prune", "--all"]).ok();
        let cold = home.run(&["run", &image, "sh", "-c", ALL]).ok();
        assert!(!cold.stderr.contains("indexing"), "{}", cold.stderr);
        assert_eq!(first.stdout, cold.stdout, "{format}");
        (first.stdout, home.run(&["image", "inspect", &image]).ok())
    });
    let [(of_gzip, _), (of_zstd, about)] = trees;
    assert!(about.stdout.contains("zstd"), "{}", about.stdout);
    assert!(of_gzip.lines().count() > 1000, "{of_gzip}");
    assert_eq!(of_gzip, of_zstd);
}
