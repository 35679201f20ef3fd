//! What is done with every request on both faces: it is counted and timed, and whoever was refused
//! has it in the audit log.
//!
//! ```text
//!   request ─▶ watch ─▶ a face ─▶ operation
//!                ▲         │ says who asks, to the request's Asker
//!                └─ Told ──┘ leaves a problem with its answer, whatever form that has
//! ```

use std::borrow::Cow;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tonic::Status;

use crate::caller::Actor;
use crate::denials::Denied;
use crate::gateway::Gateway;
use crate::lock::lock;
use crate::metrics::Answered;
use crate::problem::{Kind, Problem};

/// What is asked for that no face has.
const OTHER: &str = "other";
/// The result of a request that is answered as it was meant.
const OK: &str = "ok";

/// The name of what a request asks for, of a number of names that no caller adds to.
pub(crate) type Operation = Cow<'static, str>;

/// How a face is watched.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    pub(crate) gateway: Gateway,
    /// What the face is called.
    pub(crate) face: &'static str,
    pub(crate) operation: fn(&Request) -> Option<Operation>,
}

/// The problem that an answer tells, left with the answer.
#[derive(Debug, Clone)]
pub(crate) struct Told(pub(crate) Problem);

/// Is told who asks, as soon as somebody finds out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asker(Arc<Mutex<Actor>>);

impl Asker {
    pub(crate) fn is(&self, who: Actor) {
        *lock(&self.0) = who;
    }

    fn who(&self) -> Actor {
        *lock(&self.0)
    }
}

/// Looks at how a request is answered.
pub(crate) async fn watch(
    State(watch): State<Watch>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let operation = (watch.operation)(&request).unwrap_or(Cow::Borrowed(OTHER));
    let asker = Asker::default();
    request.extensions_mut().insert(asker.clone());
    let response = next.run(request).await;
    let told = told(&response);
    let answered = Answered {
        face: watch.face,
        operation,
        result: told.map_or_else(|| result(&response), |problem| problem.kind.name()),
    };
    watch.gateway.metrics().answered(&answered, begun.elapsed());
    if let Some(problem) = told
        && let Some(refusal) = problem.refusal
    {
        let denied = Denied::Caller {
            who: asker.who(),
            refusal,
            question: answered.operation,
            reason: problem.message.clone(),
        };
        watch.gateway.deny(denied).await;
    }
    response
}

/// The problem that an answer tells: a gRPC status has it as its cause.
fn told(response: &Response) -> Option<&Problem> {
    let extensions = response.extensions();
    let of_status = || extensions.get::<Status>()?.source()?.downcast_ref();
    let told = extensions.get::<Told>().map(|told| &told.0);
    told.or_else(of_status)
}

/// How a request was answered without a problem of ours: what could not be read has one of the
/// server's own making.
fn result(response: &Response) -> &'static str {
    let status = response.status();
    let is_grpc_failure = response.extensions().get::<Status>().is_some();
    if status.is_server_error() {
        Kind::Internal.name()
    } else if status.is_client_error() || is_grpc_failure {
        Kind::Invalid.name()
    } else {
        OK
    }
}
