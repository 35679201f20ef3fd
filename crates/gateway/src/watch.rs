//! What is done with every request on both faces: whoever was refused has it in the audit log.
//!
//! ```text
//!   request ─▶ watch ─▶ a face ─▶ operation
//!                ▲         │ says who asks, to the request's Asker
//!                └─ Told ──┘ leaves a problem with its answer, whatever form that has
//! ```

use std::borrow::Cow;
use std::error::Error;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use ids::{TokenId, WorkspaceId};
use tonic::Status;

use crate::denials::Denied;
use crate::gateway::Gateway;
use crate::lock::lock;
use crate::problem::Problem;

/// What is asked for that no face has.
const OTHER: &str = "other";

/// The name of what a request asks for, of a number of names that no caller adds to.
pub(crate) type Operation = Cow<'static, str>;

/// How a face is watched.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    pub(crate) gateway: Gateway,
    pub(crate) operation: fn(&Request) -> Option<Operation>,
}

/// The problem that an answer tells, left with the answer.
#[derive(Debug, Clone)]
pub(crate) struct Told(pub(crate) Problem);

/// Who asks, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Who {
    #[default]
    Nobody,
    /// Of a token that is known, also when it does not count.
    Token(TokenId, WorkspaceId),
    Operator(Option<WorkspaceId>),
}

/// Is told who asks, as soon as somebody finds out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asker(Arc<Mutex<Who>>);

impl Asker {
    pub(crate) fn is(&self, who: Who) {
        *lock(&self.0) = who;
    }

    fn who(&self) -> Who {
        *lock(&self.0)
    }
}

/// Looks at how a request is answered.
pub(crate) async fn watch(
    State(watch): State<Watch>,
    mut request: Request,
    next: Next,
) -> Response {
    let operation = (watch.operation)(&request).unwrap_or(Cow::Borrowed(OTHER));
    let asker = Asker::default();
    request.extensions_mut().insert(asker.clone());
    let response = next.run(request).await;
    let told = told(&response);
    if let Some(problem) = told
        && let Some(refusal) = problem.refusal
    {
        let denied = Denied {
            who: asker.who(),
            refusal,
            question: operation,
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
