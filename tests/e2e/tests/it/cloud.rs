//! A registry of a cloud and the cloud's services, under their real names, and a home that trusts
//! and reaches them.

use std::process::Stdio;
use std::time::Duration;

use e2e::home::finish;
use e2e::image::busybox;
use e2e::{Finished, Home};
use registry_sim::{
    Authority, AzureApi, AzureExchange, AzurePrincipal, GoogleApi, Login, Options, Realm,
    RegistrySim, Switchboard, unsigned_token,
};
use tokio::runtime::Runtime;

pub(crate) const GOOGLE: &str = "eu-docker.pkg.dev";
pub(crate) const AZURE: &str = "acme.azurecr.io";
/// A tenant and an application of Azure.
pub(crate) const GUID: &str = "409520d4-8100-4d1d-ad47-72432ddcc120";

const DIRECTORY: &str = "login.microsoftonline.com";

/// What a cloud is made of.
pub(crate) struct Parts<Api> {
    pub(crate) runtime: Runtime,
    pub(crate) authority: Authority,
    /// Its services.
    pub(crate) api: Api,
    /// The real names of those, and where they are.
    pub(crate) lines: Vec<(&'static str, String)>,
    pub(crate) host: &'static str,
    /// Of the registry.
    pub(crate) options: Options,
    pub(crate) exchange: Option<AzureExchange>,
}

/// One that runs.
pub(crate) struct Cloud {
    pub(crate) home: Home,
    pub(crate) proxy: Switchboard,
    pub(crate) sim: RegistrySim,
    /// Where all of these live.
    pub(crate) runtime: Runtime,
}

/// Google, whose certificates are for another name too where there is one.
pub(crate) fn google(beside: Option<&str>) -> Parts<GoogleApi> {
    let runtime = Runtime::new().expect("a runtime");
    let names: Vec<&str> = GoogleApi::HOSTS
        .into_iter()
        .chain([GOOGLE])
        .chain(beside)
        .collect();
    let authority = Authority::naming(&names);
    let api = runtime.block_on(GoogleApi::start(&authority));
    let options = Options {
        login: Login::Bearer(Realm::Url(format!("https://{GOOGLE}/v2/token"))),
        username: "oauth2accesstoken".to_owned(),
        password: "ya29.access".to_owned(),
        ..Options::default()
    };
    let lines = api.lines().into_iter();
    Parts {
        lines: lines.map(|(name, at)| (name, at.to_owned())).collect(),
        runtime,
        authority,
        api,
        host: GOOGLE,
        options,
        exchange: None,
    }
}

/// Azure with one application, likewise.
pub(crate) fn azure(beside: Option<&str>, secret: &str, federated: &str) -> Parts<AzureApi> {
    let runtime = Runtime::new().expect("a runtime");
    let names: Vec<&str> = [AZURE, DIRECTORY].into_iter().chain(beside).collect();
    let authority = Authority::naming(&names);
    let principal = AzurePrincipal {
        tenant: GUID.to_owned(),
        client_id: GUID.to_owned(),
        client_secret: secret.to_owned(),
        federated_token: federated.to_owned(),
    };
    let api = runtime.block_on(AzureApi::start(&authority, principal));
    let refresh_token = unsigned_token("refresh", Duration::from_hours(3));
    let options = Options {
        login: Login::Bearer(Realm::Url(format!("https://{AZURE}/oauth2/token"))),
        password: refresh_token.clone(),
        ..Options::default()
    };
    Parts {
        lines: vec![(DIRECTORY, api.host().to_owned())],
        runtime,
        authority,
        api,
        host: AZURE,
        options,
        exchange: Some(AzureExchange {
            service: "sim".to_owned(),
            tenant: GUID.to_owned(),
            access_token: "aad-access-token".to_owned(),
            refresh_token,
            fault: None,
        }),
    }
}

impl<Api> Parts<Api> {
    /// Opens the registry, with one image, for a home.
    pub(crate) fn open(self, home: Home) -> (Cloud, Api) {
        std::fs::write(home.path().join("ca.pem"), self.authority.pem()).expect("writes");
        let options = Options {
            tls: Some(self.authority),
            ..self.options
        };
        let sim = self.runtime.block_on(RegistrySim::start(options));
        sim.push("acme/fn", "v1", &busybox().build());
        if let Some(exchange) = self.exchange {
            sim.set_exchange(exchange);
        }
        let lines = self.lines.iter().map(|(name, at)| (*name, at.as_str()));
        let lines: Vec<_> = lines.chain([(self.host, sim.host())]).collect();
        let proxy = self.runtime.block_on(Switchboard::start(&lines));
        let cloud = Cloud {
            home,
            proxy,
            sim,
            runtime: self.runtime,
        };
        (cloud, self.api)
    }
}

impl Cloud {
    pub(crate) fn run(
        &self,
        words: &[&str],
        environment: &[(&str, &str)],
        input: &str,
    ) -> Finished {
        let child = self
            .home
            .command(words)
            .env("HTTPS_PROXY", self.proxy.url())
            .env("SSL_CERT_FILE", self.home.path().join("ca.pem"))
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the holdfast binary starts");
        finish(child, input)
    }
}
