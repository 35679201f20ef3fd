//! Our side: a gateway with an image that it may pull, and the programs that call through it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::http::{Address, Connection};
use super::program::{Place, Program, Source};
use crate::bench::lab::Lab;
use crate::serving::{self, Serving};
use crate::{python, tree};

const WITH_HOLDFAST: Source = Source {
    name: "with_holdfast",
    text: include_str!("with_holdfast.py"),
};
const WITH_BETA9: Source = Source {
    name: "with_beta9",
    text: include_str!("with_beta9.py"),
};

/// The newest client that we hold to.
const BETA9: &str = "beta9-0.1.291";

/// A gateway that serves, with the demo image in a registry that it has a login for.
pub(super) struct Gateway {
    serving: Serving,
    image: String,
    programs: PathBuf,
}

impl Gateway {
    pub(super) fn start(lab: &Lab) -> Result<Self> {
        python::install()?;
        // A gateway tells where its token is when it makes one, at its first start.
        lab.ours.forget()?;
        let image = lab.registry.push(&lab.demo, &lab.login)?;
        lab.ours.login(&lab.registry.address(), &lab.login)?;
        let programs = lab.folder("calls");
        fs::create_dir_all(&programs)?;
        let log = fs::File::create(programs.join("serve.log"))?;
        let mut command = lab.ours.command(serving::WORDS);
        Ok(Self {
            serving: Serving::start(command.stderr(log))?,
            image,
            programs,
        })
    }

    /// The image's name in the registry.
    pub(super) fn image(&self) -> &str {
        &self.image
    }

    /// A program with our own package, which speaks HTTP.
    pub(super) fn sdk(&self) -> Result<Program> {
        let place = Place::new(&WITH_HOLDFAST, &self.programs)?;
        let package = tree::root().join("sdk/python/src");
        let package = package.to_str().context("a path that is not UTF-8")?;
        let variables = [
            ("PYTHONPATH", package),
            ("HOLDFAST_GATEWAY", self.serving.gateway()),
            ("HOLDFAST_TOKEN", self.serving.token()),
            ("IMAGE", &self.image),
        ];
        Program::start(&place, "sdk", &variables)
    }

    /// A program with the beta9 client, which speaks gRPC to the same port.
    pub(super) fn beta9(&self) -> Result<Program> {
        let place = Place::new(&WITH_BETA9, &self.programs)?;
        let config = self.programs.join("beta9.ini");
        let address = self.address()?.socket;
        let (token, host, port) = (self.serving.token(), address.ip(), address.port());
        let text =
            format!("[default]\ntoken = {token}\ngateway_host = {host}\ngateway_port = {port}\n");
        fs::write(&config, text)?;
        let config = config.to_str().context("a path that is not UTF-8")?;
        let variables = [("CONFIG_PATH", config), ("IMAGE", &self.image)];
        Program::start(&place, BETA9, &variables)
    }

    pub(super) fn address(&self) -> Result<Address<'_>> {
        let gateway = self.serving.gateway();
        let socket = gateway.strip_prefix("http://").unwrap_or(gateway);
        let socket = socket.trim_end_matches('/').parse();
        Ok(Address {
            socket: socket.with_context(|| format!("no loopback address in {gateway}"))?,
            token: self.serving.token(),
        })
    }

    /// A token of the operators', who see what the gateway measures.
    pub(super) fn metrics_token(lab: &Lab) -> Result<String> {
        let words = ["--json", "tokens", "create", "bench", "--scope", "metrics"];
        let made: serde_json::Value = serde_json::from_str(&lab.ours.output(&words)?)?;
        let token = made["token"].as_str();
        Ok(token.context("no token was made")?.to_owned())
    }

    /// The function of a program that has called it.
    pub(super) fn function(&self, handler: &str) -> Result<String> {
        let listed = Connection::open(self.address()?)?.get("/v1/stubs")?;
        let stubs = listed["stubs"].as_array().context("no list of functions")?;
        let found = stubs.iter().find(|stub| stub["handler"] == handler);
        let id = found.and_then(|stub| stub["id"].as_str());
        id.map(str::to_owned)
            .with_context(|| format!("no function {handler}"))
    }

    pub(super) fn stop(self) -> Result<()> {
        self.serving.stop()
    }
}
