//! What a container is given when it goes to a worker: its image, what it reads that with, and the
//! secrets of its function. Made then and kept nowhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker::{Lease, LeaseReader};
use control_store::Stub;
use credential::ExposeSecret;
use ids::{ContainerId, WorkerId, WorkspaceId};
use worker_protocol::{Code, Image, Layer, Setup, Start};

use super::container::{Given, Reading, SecretVersions};
use super::start::{START_TIMEOUT, end_lease, millis};
use super::traces::Traced;
use crate::gateway::Gateway;
use crate::operations::images::OpenImage;
use crate::problem::Problem;

/// Longest result of a call: what a message of a worker carries.
const RESULT_LIMIT_BYTES: u64 = worker_protocol::MAX_PAYLOAD_BYTES as u64;
/// What stands in the audit log where a secret is opened.
const PURPOSE: &str = "start a container";

/// Everything for one container, before it has a place.
pub(super) struct HandOff {
    pub(super) start: Start,
    pub(super) lease: Arc<Lease>,
    pub(super) given: Given,
}

impl Gateway {
    /// Proves that the workspace may read the image now, and opens its function's secrets.
    pub(super) async fn hand_off(
        &self,
        stub: &Stub,
        container: ContainerId,
        worker: WorkerId,
    ) -> Result<HandOff, Problem> {
        let image = &stub.definition.image;
        let reader = reader_of(container, worker);
        let opened = self.open_image_for(reader, stub.workspace, image).await?;
        self.share_image(stub.workspace, image);
        let handed = self.hand_off_opened(stub, &opened);
        match handed.await {
            Ok((start, given)) => Ok(HandOff {
                start,
                lease: opened.lease,
                given,
            }),
            Err(problem) => {
                end_lease(&opened.lease).await;
                Err(problem)
            }
        }
    }

    async fn hand_off_opened(
        &self,
        stub: &Stub,
        opened: &OpenImage,
    ) -> Result<(Start, Given), Problem> {
        let definition = &stub.definition;
        let code = match definition.code {
            Some(id) => Some(self.open_object(stub.workspace, id).await?),
            None => None,
        };
        let secrets = self.current_secrets(stub).await?;
        let setup = Setup {
            handler: definition.handler.clone(),
            environment: self
                .environment(stub, &secrets, opened.lease.reader())
                .await?,
            concurrency: definition.concurrency,
            result_limit_bytes: RESULT_LIMIT_BYTES,
        };
        let mut start = Start {
            interpreters: vec![definition.python.clone()],
            cpu_millicores: definition.cpu_millicores,
            memory_bytes: definition.memory_bytes,
            code: code.as_ref().map(|code| Code {
                size_bytes: code.size_bytes,
            }),
            setup: Some(setup),
            name: stub.name.clone(),
            ..self.start_of(stub.workspace, opened).await?
        };
        let traced = Traced::from(&start);
        start.foretold = self.foretell(&traced).await;
        let given = Given {
            reading: reading(opened),
            code: code.map(|code| code.file),
            secrets,
            traced,
        };
        Ok((start, given))
    }

    /// What any container of an image is started with.
    pub(super) async fn start_of(
        &self,
        workspace: WorkspaceId,
        opened: &OpenImage,
    ) -> Result<Start, Problem> {
        Ok(Start {
            workspace: self.workspace(workspace).await?.name.to_string(),
            image: Some(self.wire_image(opened)),
            start_timeout_ms: millis(START_TIMEOUT),
            ..Start::default()
        })
    }

    /// The function's variables and opened secrets, which stand above them.
    async fn environment(
        &self,
        stub: &Stub,
        secrets: &SecretVersions,
        to: &LeaseReader,
    ) -> Result<BTreeMap<String, String>, Problem> {
        let mut environment: BTreeMap<_, _> = stub.definition.environment.iter().cloned().collect();
        for name in &stub.definition.secrets {
            if !secrets.iter().any(|(known, _)| known == name) {
                let message = format!("secret {name} is not there any more");
                return Err(Problem::not_found(message).hint(format!("holdfast secret set {name}")));
            }
            let broker = self.broker();
            let given = broker.give_named_secret(stub.workspace, name, PURPOSE, to);
            let value = given.await?;
            environment.insert(name.clone(), value.expose_secret().to_owned());
        }
        Ok(environment)
    }
}

/// Whose a lease is that is for a container.
pub(crate) fn reader_of(container: ContainerId, worker: WorkerId) -> LeaseReader {
    LeaseReader {
        worker: Some(worker),
        container: container.to_string(),
    }
}

/// What a container may read its image with, and nothing else.
pub(super) fn reading(opened: &OpenImage) -> Reading {
    Reading {
        registry: opened.reference.registry().clone(),
        repository: opened.reference.repository().to_owned(),
        origin: opened.lease.origin(),
        layers: opened
            .image
            .layers
            .iter()
            .map(|layer| layer.digest.clone())
            .collect(),
        sizes_bytes: opened
            .image
            .layers
            .iter()
            .map(|layer| layer.size_bytes)
            .collect(),
        lease: Some(Arc::clone(&opened.lease)),
    }
}

impl Gateway {
    pub(super) fn wire_image(&self, opened: &OpenImage) -> Image {
        let (image, endpoint) = (&opened.image, opened.lease.endpoint());
        let variable = |(name, value): &(String, String)| format!("{name}={value}");
        Image {
            reference: opened.reference.canonical(),
            registry: opened.reference.registry().as_str().to_owned(),
            repository: opened.reference.repository().to_owned(),
            origin: opened.lease.origin(),
            plain_http: endpoint.plain_http,
            ca_pem: endpoint.ca_pem.clone().map(Into::into),
            config: image.config.clone().unwrap_or_default().into(),
            layers: image
                .layers
                .iter()
                .map(|layer| Layer {
                    digest: layer.digest.to_string(),
                    index_root: layer.index_root.to_vec().into(),
                })
                .collect(),
            environment: image.environment.iter().map(variable).collect(),
            has_shared_cache: self.shared_cache().is_some(),
        }
    }
}
