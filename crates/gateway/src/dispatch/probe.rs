//! Which Python is in an image: asked of a container that is started for nothing else, in which
//! nothing of the user's runs.

use std::sync::Arc;
use std::time::Duration;

use broker::CredentialChoice;
use control_store::Python;
use ids::{ContainerId, WorkspaceId};
use worker_protocol::ended::Cause;
use worker_protocol::{Ready, Start, to_worker};

use super::container::{Container, Event, Given, Gone, GoneCause, NewContainer, SecretVersions};
use super::hand_off::{reader_of, reading};
use super::placement::Needs;
use super::start::{self, START_TIMEOUT, end_lease};
use super::traces::Traced;
use super::worker::WorkerLink;
use crate::gateway::Gateway;
use crate::operations::images::OpenImage;
use crate::problem::{Kind, Problem};
use crate::python::MISSING_HINT;

/// What an interpreter takes that does nothing.
const NEEDS: Needs = Needs {
    cpu_millicores: 100,
    memory_bytes: 128 << 20,
};
/// How long a build waits for a worker that has room for that.
const ROOM_TIMEOUT: Duration = Duration::from_mins(2);

impl Gateway {
    /// The first of these interpreters that is in the image and starts.
    pub(crate) async fn find_python(
        &self,
        workspace: WorkspaceId,
        image: &OpenImage,
        interpreters: &[String],
    ) -> Result<Python, Problem> {
        let workers = &self.dispatch().workers;
        let reserving = workers.reserve(NEEDS, &image.image.id);
        let reserved = tokio::time::timeout(ROOM_TIMEOUT, reserving).await;
        let reservation = reserved.ok().and_then(Result::ok).ok_or_else(no_worker)?;
        let id = ContainerId::new();
        let leased = self.lease_for_probe(workspace, image, id, &reservation.link);
        let image = &leased.await?;
        let start = self.start_of(workspace, image).await;
        let start = match start {
            Ok(start) => start,
            Err(problem) => {
                end_lease(&image.lease).await;
                return Err(problem);
            }
        };
        let mut start = Start {
            interpreters: interpreters.to_vec(),
            cpu_millicores: NEEDS.cpu_millicores,
            memory_bytes: NEEDS.memory_bytes,
            name: "look for Python".to_owned(),
            ..start
        };
        let traced = Traced::from(&start);
        start.foretold = self.foretell(&traced).await;
        let (container, mut events) = Container::new(NewContainer {
            id,
            number: 1,
            link: Arc::clone(&reservation.link),
            given: Given {
                reading: reading(image),
                code: None,
                secrets: SecretVersions::new(),
                traced,
            },
        });
        start.delivery = Some(container.delivery.clone());
        self.dispatch().add(&container);
        let sent = container.link.send(to_worker::Message::Start(start)).await;
        if sent.is_err() {
            container.has_ended(Gone::worker_lost());
        }
        let ready = until_ready(&container, &mut events).await;
        start::end(&container, Duration::ZERO).await;
        self.dispatch().remove(container.id);
        end_lease(&image.lease).await;
        let ready = ready.map_err(|gone| refused(&gone, interpreters))?;
        Ok(Python {
            program: ready.interpreter,
            version: ready.python_version,
        })
    }
}

impl Gateway {
    /// The image with a lease of the container's own: that of the build is the build's.
    async fn lease_for_probe(
        &self,
        workspace: WorkspaceId,
        image: &OpenImage,
        container: ContainerId,
        link: &WorkerLink,
    ) -> Result<OpenImage, Problem> {
        let choice = match image.lease.scope() {
            Some(scope) => CredentialChoice::Scope(scope.clone()),
            None => CredentialChoice::None,
        };
        let reader = reader_of(container, link.id);
        let broker = self.broker();
        let leasing = broker.lease_for(reader, workspace, &image.reference, choice);
        Ok(OpenImage {
            lease: Arc::new(leasing.await?),
            ..image.clone()
        })
    }
}

async fn until_ready(
    container: &Container,
    events: &mut tokio::sync::mpsc::Receiver<Event>,
) -> Result<Ready, Gone> {
    let waiting = async {
        loop {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(Event::Ready(ready)) => return Ok(ready),
                    Some(Event::Taken | Event::Warming(_)) => {}
                    None => return Err(Gone::worker_lost()),
                },
                gone = container.gone() => return Err(gone.clone()),
            }
        }
    };
    let waited = tokio::time::timeout(START_TIMEOUT, waiting).await;
    waited.unwrap_or_else(|_| Err(Gone::worker_lost()))
}

fn no_worker() -> Problem {
    Problem::new(
        Kind::Unavailable,
        "no worker has room to look into the image",
    )
    .hint("`holdfast serve` runs one; others come with `holdfast worker run`")
}

fn refused(gone: &Gone, interpreters: &[String]) -> Problem {
    let reason = &gone.reason;
    match gone.cause {
        GoneCause::Said(Cause::NoPython) => {
            let tried = interpreters.join(", ");
            let message =
                format!("the image has no Python that can be used; looked for {tried}: {reason}");
            Problem::new(Kind::Unsupported, message).hint(MISSING_HINT)
        }
        GoneCause::CalledOff | GoneCause::Said(Cause::Denied) => Problem::new(Kind::Denied, reason),
        GoneCause::WorkerLost => Problem::new(Kind::Unavailable, reason),
        GoneCause::Said(_) => {
            let message = format!("no container could be started of the image: {reason}");
            Problem::new(Kind::Unavailable, message)
        }
    }
}
