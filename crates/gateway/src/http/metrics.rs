//! What Prometheus asks for: values of the whole installation, for who may see that.

use axum::extract::{FromRequestParts, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use control_store::TokenScope;

use super::OperatorsSocket;
use crate::caller::{Actor, Caller};
use crate::gateway::Gateway;
use crate::problem::Problem;
use crate::watch::Asker;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Somebody who may see values of all workspaces together: operators need name none.
pub(super) struct Watcher;

impl FromRequestParts<Gateway> for Watcher {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Problem> {
        if parts.extensions.get::<OperatorsSocket>().is_some() {
            if let Some(asker) = parts.extensions.get::<Asker>() {
                asker.is(Actor::Operator(None));
            }
            return Ok(Self);
        }
        let caller = Caller::from_request_parts(parts, gateway).await?;
        caller.must(TokenScope::Metrics)?;
        Ok(Self)
    }
}

pub(super) async fn show(State(gateway): State<Gateway>, _: Watcher) -> impl IntoResponse {
    let census = gateway.dispatch().census();
    let alarms = gateway.broker().lease_alarms();
    gateway.metrics().lease_alarms(alarms);
    let bytes = gateway.broker().read_through_bytes();
    gateway.metrics().read_through_bytes(bytes);
    (
        [(CONTENT_TYPE, OPENMETRICS)],
        gateway.metrics().text(&census),
    )
}
