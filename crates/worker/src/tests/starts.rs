//! Messages that start containers.

use worker_protocol::{Delivery, Image, Layer, Setup, Start};

pub(crate) const CONTAINER: &str = "ctr-1";

pub(crate) fn delivery(number: u32) -> Delivery {
    Delivery {
        container: CONTAINER.to_owned(),
        number,
    }
}

/// Of a container that says which Python it has.
pub(crate) fn probe() -> Start {
    Start {
        delivery: Some(delivery(1)),
        workspace: "default".to_owned(),
        image: Some(Image {
            reference: "registry.test/team/app:1".to_owned(),
            registry: "registry.test".to_owned(),
            repository: "team/app".to_owned(),
            origin: "registry.test/team/app".to_owned(),
            config: "{}".into(),
            layers: vec![Layer {
                digest: format!("sha256:{}", "0".repeat(64)),
                index_root: vec![0; 32].into(),
            }],
            ..Image::default()
        }),
        interpreters: vec!["python3".to_owned()],
        start_timeout_ms: 60_000,
        name: "app".to_owned(),
        ..Start::default()
    }
}

/// Of a container that calls a function.
pub(crate) fn with_setup(handler: &str, concurrency: u32) -> Start {
    Start {
        setup: Some(Setup {
            handler: handler.to_owned(),
            concurrency,
            result_limit_bytes: 1 << 20,
            ..Setup::default()
        }),
        ..probe()
    }
}
