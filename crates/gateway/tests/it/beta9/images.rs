//! Images, with credentials in both ways of the client.

use beta9_protocol::image::{
    BuildImageRequest, BuildImageResponse, BuildStep, GitBuildSource, VerifyImageBuildRequest,
    VerifyImageBuildResponse,
};
use control_store::TokenScope;
use registry_sim::{Login, RegistrySim};
use reqwest::Method;
use serde_json::json;
use tonic::Status;

use super::client::{Beta9, refusal};
use crate::builds::{PASSWORD, USERNAME, registry};
use crate::support::Stage;

/// A request for the image as 0.1.291 makes it: with empty values.
pub(crate) fn wanted(sim: &RegistrySim, credential: &[(&str, &str)]) -> BuildImageRequest {
    let pairs = credential.iter();
    let pairs = pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    BuildImageRequest {
        python_version: "python3".to_owned(),
        existing_image_uri: format!("{}/acme/app:v1", sim.host()),
        existing_image_creds: pairs.collect(),
        ..Default::default()
    }
}

impl Beta9 {
    async fn verify(
        &self,
        request: VerifyImageBuildRequest,
    ) -> Result<VerifyImageBuildResponse, Status> {
        let reply = self.image().verify_image_build(self.ask(request)).await;
        reply.map(tonic::Response::into_inner)
    }

    /// What was said, and the last message.
    pub(crate) async fn build(&self, request: BuildImageRequest) -> (String, BuildImageResponse) {
        let replies = self.image().build_image(self.ask(request)).await;
        let mut replies = replies.unwrap().into_inner();
        let mut said = String::new();
        while let Some(reply) = replies.message().await.unwrap() {
            if reply.done {
                assert!(replies.message().await.unwrap().is_none(), "it is the last");
                return (said, reply);
            }
            assert!(
                reply.msg.is_empty() || reply.msg.ends_with('\n'),
                "{reply:?}"
            );
            said.push_str(&reply.msg);
        }
        panic!("a build has an end");
    }
}

/// What 0.1.291 asks before a build.
fn question(request: &BuildImageRequest) -> VerifyImageBuildRequest {
    VerifyImageBuildRequest {
        python_version: request.python_version.clone(),
        python_packages: request.python_packages.clone(),
        commands: request.commands.clone(),
        existing_image_uri: request.existing_image_uri.clone(),
        build_steps: request.build_steps.clone(),
        env_vars: request.env_vars.clone(),
        dockerfile: request.dockerfile.clone(),
        build_ctx_object: request.build_ctx_object.clone(),
        secrets: request.secrets.clone(),
        gpu: request.gpu.clone(),
        ignore_python: request.ignore_python,
        git_source: request.git_source.clone(),
        image_id: Some(String::new()),
        force_rebuild: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_built_with_values_or_with_names_of_secrets() {
    let (stage, sim) = (Stage::new().await, registry(Login::Basic).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    let by_value = wanted(&sim, &[("USERNAME", USERNAME), ("PASSWORD", PASSWORD)]);
    let by_name = wanted(&sim, &[("USERNAME", ""), ("PASSWORD", "")]);
    let (_, last) = beta9.build(by_name.clone()).await;
    assert!(!last.success && last.image_id.is_empty());
    assert_eq!(
        last.msg,
        "credential key PASSWORD is empty, and no secret is named so\n\
         `holdfast secret set PASSWORD` makes one"
    );
    let (said, built) = beta9.build(by_value.clone()).await;
    assert!(built.success, "{said}{}", built.msg);
    assert_eq!(built.python_version, "python3");
    assert!(
        said.contains("found Python 3.11.2\n") && !said.contains(PASSWORD),
        "{said}"
    );
    for (name, value) in [("USERNAME", USERNAME), ("PASSWORD", PASSWORD)] {
        let path = format!("/v1/secrets/{name}");
        let body = Some(json!({ "value": value }));
        caller.ask(Method::PUT, &path, body).await;
    }
    let (_, again) = beta9.build(by_name.clone()).await;
    assert!(again.success, "{}", again.msg);
    assert_eq!(again.image_id, built.image_id);
    for request in [by_value, by_name] {
        let answer = beta9.verify(question(&request)).await.unwrap();
        assert!(!answer.exists, "the registry is asked each time");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_build_failed_stands_in_its_last_message() {
    let (stage, sim) = (Stage::new().await, registry(Login::Basic).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    let wrong = wanted(
        &sim,
        &[("USERNAME", USERNAME), ("PASSWORD", "wrong-password")],
    );
    let (said, last) = beta9.build(wrong).await;
    let subject = format!("credential for {}/acme/app: ", sim.host());
    assert!(!last.success && last.msg.starts_with(&subject), "{last:?}");
    assert!(last.msg.contains("\nrun `holdfast login "), "{}", last.msg);
    assert_eq!(last.python_version, "python3");
    assert!(!format!("{said}{}", last.msg).contains("wrong-password"));
    let (_, last) = beta9.build(wanted(&sim, &[])).await;
    assert!(last.msg.contains("no credential covers it"), "{}", last.msg);
    let reader = stage.caller("team", &[TokenScope::Read]).await;
    let (_, last) = Beta9::of(&stage, &reader).build(wanted(&sim, &[])).await;
    assert!(
        last.msg.starts_with("token has no scope \"call\"\n"),
        "{}",
        last.msg
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_used_and_variables_and_python_are_the_images() {
    let (stage, sim) = (Stage::new().await, registry(Login::Basic).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    stage.login("team", sim.host(), PASSWORD).await;
    let (_, plain) = beta9.build(wanted(&sim, &[])).await;
    assert!(plain.success, "{}", plain.msg);
    let other = BuildImageRequest {
        python_version: "python3.11".to_owned(),
        env_vars: vec!["MODE=a=b".to_owned()],
        ..wanted(&sim, &[])
    };
    let (_, built) = beta9.build(other).await;
    assert!(
        built.success && built.image_id != plain.image_id,
        "{built:?}"
    );
    assert_eq!(built.python_version, "python3.11");
    assert_eq!(stage.probe.asked().last().unwrap()[0], "python3.11");
}

/// A way to ask for more than the base image.
type Change = fn(&mut BuildImageRequest);

const REFUSED: [(&str, Change); 15] = [
    ("not supported: python_packages\n", |image| {
        image.python_packages = some();
    }),
    ("not supported: commands\n", |image| image.commands = some()),
    ("not supported: build steps\n", |image| {
        image.build_steps = vec![BuildStep::default()];
    }),
    ("not supported: a Dockerfile\n", |image| {
        image.dockerfile = "x".into();
    }),
    ("not supported: files to add\n", |image| {
        image.build_ctx_object = "x".into();
    }),
    ("not supported: secrets of a build\n", |image| {
        image.secrets = some();
    }),
    ("not supported: build_with_gpu\n", |image| {
        image.gpu = "T4".into();
    }),
    ("not supported: ignore_python\n", |image| {
        image.ignore_python = true;
    }),
    ("not supported: a git repository\n", |image| {
        image.git_source = Some(GitBuildSource::default());
    }),
    ("not supported: micromamba\n", |image| {
        image.python_version = "micromamba3.11".into();
    }),
    ("not supported: python_packages, commands\n", |image| {
        (image.python_packages, image.commands) = (some(), some());
    }),
    ("there is no default image\n", |image| {
        image.existing_image_uri = String::new();
    }),
    ("base_image: ", |image| {
        image.existing_image_uri = "A B".into();
    }),
    ("environment: a variable is written as", |image| {
        image.env_vars = some();
    }),
    ("environment: \"A\" is a reference", |image| {
        image.env_vars = vec!["A=${{secret.B}}".to_owned()];
    }),
];

fn some() -> Vec<String> {
    vec!["x".to_owned()]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_built_is_refused_by_name_before_and_in_the_build() {
    let (stage, sim) = (Stage::new().await, registry(Login::Nobody).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    for (text, change) in REFUSED {
        let mut request = wanted(&sim, &[]);
        change(&mut request);
        let asked = beta9.ask(question(&request));
        let refused = refusal(beta9.image().verify_image_build(asked).await);
        assert!(refused.starts_with(text), "{refused}");
        let (said, last) = beta9.build(request).await;
        assert!(!last.success && said.is_empty());
        assert_eq!(last.msg, refused);
    }
    assert_eq!(stage.probe.asked(), Vec::<Vec<String>>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_found_by_its_id_in_its_own_workspace() {
    let (stage, sim) = (Stage::new().await, registry(Login::Nobody).await);
    let caller = stage.caller("team", &TokenScope::ALL).await;
    let beta9 = Beta9::of(&stage, &caller);
    let (_, built) = beta9.build(wanted(&sim, &[])).await;
    let by_id = |id: &str| VerifyImageBuildRequest {
        image_id: Some(id.to_owned()),
        python_version: "python3".to_owned(),
        ..Default::default()
    };
    let found = beta9.verify(by_id(&built.image_id)).await.unwrap();
    assert!(found.exists && found.image_id == built.image_id);
    let zeros = format!("sha256:{}", "0".repeat(64));
    let theirs = stage.caller("theirs", &TokenScope::ALL).await;
    let theirs = Beta9::of(&stage, &theirs);
    for (beta9, id) in [
        (&beta9, &*zeros),
        (&beta9, "abc"),
        (&theirs, &built.image_id),
    ] {
        let refused = beta9.verify(by_id(id)).await.unwrap_err();
        assert!(refused.message().starts_with("no image "), "{refused:?}");
    }
    let mut more = by_id(&built.image_id);
    more.python_packages = vec!["numpy".to_owned()];
    let refused = beta9.verify(more).await.unwrap_err();
    assert!(
        refused
            .message()
            .starts_with("not supported: python_packages\n"),
        "{refused:?}"
    );
    // An image that was built before names its id too, and its registry is asked all the same.
    let mut again = question(&wanted(&sim, &[]));
    again.image_id = Some(built.image_id);
    assert!(!beta9.verify(again).await.unwrap().exists);
}
