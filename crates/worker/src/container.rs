//! One container, from the message that starts it to the last one about it.
//!
//! Invariants: exactly one `Ended`, after which nothing of the container is left here; before it is
//! ready nothing that it does takes longer than its start may; it is ended when its inbox closes.

mod calls;
pub(crate) mod conversation;
pub(crate) mod end;
mod output;

use std::sync::Arc;
use std::time::Duration;

use launch::Waterfall;
use tokio::sync::mpsc;
use tokio::time::Instant;
use worker_protocol as message;
use worker_protocol::ended::Cause;
use worker_protocol::from_worker::Message;

use self::conversation::{Attendance, Attended};
use self::end::End;
use crate::attach::ControlPlane;
use crate::auth::LeaseAuth;
use crate::files::{CodeError, CodeFile, Files};
use crate::indexes::{self, FetchError};
use crate::launching::{Machine, Order};
use crate::plan::Plan;
use crate::uplink::Uplink;

/// Commands that wait while a container is busy being heard: each of its calls, once to be made
/// and once to be cancelled, and some.
pub(crate) const MAX_COMMANDS: usize = 4128;

/// What the control plane wants of a container that it started.
#[derive(Debug)]
pub(crate) enum Command {
    Call(message::Call),
    Cancel { attempt: String },
    Stop { grace: Duration },
}

/// Where containers live.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) files: Arc<Files>,
    pub(crate) control_plane: ControlPlane,
}

/// A container's way down and up.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) inbox: mpsc::Receiver<Command>,
    pub(crate) uplink: Uplink,
}

/// Starts a container, stays with it, and says how it ended.
pub(crate) async fn run(start: message::Start, node: Node, mut lines: Lines) {
    let end = match Plan::parse(start) {
        Ok(plan) => live(Arc::new(plan), node, &mut lines).await,
        Err(error) => End::new(Cause::Machine, format!("what to start: {error}")),
    };
    let ended = end.message(lines.uplink.delivery());
    lines.uplink.say(Message::Ended(ended)).await;
}

async fn live(plan: Arc<Plan>, node: Node, lines: &mut Lines) -> End {
    let deadline = Instant::now() + plan.start_timeout;
    let waterfall = Arc::new(Waterfall::begin());
    let fetching = waterfall.measure("code", fetch(&plan, &node, lines.uplink.delivery()));
    let code = match unless_ended(fetching, &mut lines.inbox, deadline).await {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => return End::new(Cause::Machine, format!("its code: {error}")),
        Err(end) => return end,
    };
    let completing = complete(&plan, &node, &waterfall, lines.uplink.delivery());
    match unless_ended(completing, &mut lines.inbox, deadline).await {
        Ok(Ok(())) => {}
        Ok(Err((layer, error))) => {
            return End::new(Cause::Index, format!("the index of {layer}: {error}"));
        }
        Err(end) => return end,
    }
    let auth = LeaseAuth::new(node.control_plane, lines.uplink.delivery());
    let auth = Arc::new(auth);
    let mut missing = Vec::new();
    for interpreter in &plan.interpreters {
        let launched = node.machine.launch(Order {
            plan: Arc::clone(&plan),
            interpreter: interpreter.clone(),
            code: code.as_ref().map(|code| code.path().to_owned()),
            auth: Arc::clone(&auth) as _,
            waterfall: Arc::clone(&waterfall),
        });
        let launched = match launched {
            Ok(launched) => launched,
            Err(error) => return End::new(Cause::Machine, format!("its socket: {error}")),
        };
        let attendance = Attendance {
            plan: &plan,
            interpreter,
            waterfall: &waterfall,
            deadline,
        };
        match conversation::attend(attendance, launched, lines).await {
            Attended::Ended(end) => return end,
            Attended::NoProgram(reason) => missing.push(reason),
        }
    }
    End::new(Cause::NoPython, missing.join("; "))
}

async fn fetch(
    plan: &Plan,
    node: &Node,
    delivery: message::Delivery,
) -> Result<Option<CodeFile>, CodeError> {
    let Some(size_bytes) = plan.code_bytes else {
        return Ok(None);
    };
    let mut pieces = node.control_plane.code(delivery).await?;
    let code = node.files.keep_code(&mut pieces, size_bytes).await?;
    Ok(Some(code))
}

/// Has the indexes of the image on this machine.
async fn complete(
    plan: &Plan,
    node: &Node,
    waterfall: &Waterfall,
    delivery: message::Delivery,
) -> Result<(), (String, FetchError)> {
    let Some(store) = node.machine.index_store() else {
        return Ok(());
    };
    let completing = indexes::complete(store, &plan.image, &node.control_plane, &delivery);
    waterfall.measure("indexes", completing).await
}

/// Works before there is anything that could be called.
pub(crate) async fn unless_ended<T>(
    work: impl Future<Output = T>,
    inbox: &mut mpsc::Receiver<Command>,
    deadline: Instant,
) -> Result<T, End> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            command = inbox.recv() => conversation::heed_early(command.as_ref())?,
            () = tokio::time::sleep_until(deadline) => return Err(conversation::late()),
        }
    }
}
