//! Amazon's services behind registries of ECR: their API, the session service, the token service
//! of the public registry.

use std::sync::Arc;
use std::time::Duration;

use credential::auth::AuthSource;
use registry_sim::{EcrFault, StsApi};

use super::upstreams::{Provided, Says, Upstream};
use crate::ecr::Ecr;
use crate::node::Machine;
use crate::role::Stage;

/// What AWS gives, which lives for so long.
pub(super) async fn providers(life: Duration) -> Vec<Provided> {
    vec![
        keys("ECR", &[], Ecr::private().await, life),
        keys(
            "ECR, keys of a session",
            &[SESSION],
            of_a_session().await,
            life,
        ),
        keys(
            "ECR Public's API",
            &[],
            Ecr::public_living(life).await,
            life,
        ),
        public("ECR Public", Ecr::public_living(life).await, life),
        role("role", Stage::private().await, life),
        web_identity("role by our own issuer", Stage::private().await, life),
        node("role of an instance", Machine::of_aws().await, life),
    ]
}

const SESSION: (&str, &str) = ("AWS_SESSION_TOKEN", "session-token");

/// One whose keys count with their session's token alone.
async fn of_a_session() -> Ecr {
    let ecr = Ecr::private().await;
    ecr.api.demand_session(SESSION.1);
    ecr
}

fn keys(name: &'static str, more: &[(&str, &str)], ecr: Ecr, life: Duration) -> Provided {
    ecr.api.give("ecr-password", life);
    Provided {
        name,
        host: ecr.host.to_owned(),
        source: ecr.source(ecr.keys_with(more)),
        clock: Arc::clone(&ecr.clock),
        life,
        upstream: Box::new(ecr),
    }
}

fn public(name: &'static str, ecr: Ecr, life: Duration) -> Provided {
    Provided {
        name,
        host: ecr.host.to_owned(),
        source: ecr.source(ecr.keys()),
        clock: Arc::clone(&ecr.clock),
        life,
        upstream: Box::new(Public(ecr)),
    }
}

fn role(name: &'static str, stage: Stage, life: Duration) -> Provided {
    let source = stage.source();
    in_role(name, "InvalidClientTokenId", source, stage, life)
}

/// No keys: a token of our own issuer, which the role trusts.
fn web_identity(name: &'static str, stage: Stage, life: Duration) -> Provided {
    let source = stage.source_by_our_issuer();
    in_role(name, "InvalidIdentityToken", source, stage, life)
}

/// `wrong` is how the session service says that it does not know who asks.
fn in_role(
    name: &'static str,
    wrong: &'static str,
    source: Arc<dyn AuthSource>,
    stage: Stage,
    life: Duration,
) -> Provided {
    stage.sts.set_life(life);
    Provided {
        name,
        host: stage.ecr.host.to_owned(),
        source,
        clock: Arc::clone(&stage.ecr.clock),
        life,
        upstream: Box::new(Sessions { stage, wrong }),
    }
}

/// The instance's keys last for years; what they are given by the session service ends.
fn node(name: &'static str, machine: Machine, life: Duration) -> Provided {
    machine.sts().set_life(life);
    Provided {
        name,
        host: machine.cloud.host.to_owned(),
        source: machine.source(),
        clock: Arc::clone(&machine.cloud.clock),
        life,
        upstream: Box::new(Instance(machine)),
    }
}

impl Upstream for Ecr {
    fn asked(&self) -> u64 {
        self.api.counter().read().requests
    }

    fn say(&self, says: Option<Says>) {
        let fault = says.map(|says| fault(says, "UnrecognizedClientException"));
        self.api.set_fault(fault);
    }

    fn hold(&self, held: bool) {
        if held {
            self.api.close_gate();
        } else {
            self.api.open_gate();
        }
    }

    fn turn(&self, ahead: jiff::SignedDuration) {
        self.api.set_clock_ahead(ahead);
    }

    fn strayed(&self) -> u64 {
        self.sim.stranger().read().requests + self.sim.realm().read().requests
    }
}

/// The token service of the public registry. Its API gives a password for hours.
struct Public(Ecr);

impl Upstream for Public {
    fn asked(&self) -> u64 {
        self.0.sim.asked()
    }

    fn say(&self, says: Option<Says>) {
        self.0.sim.say(says);
    }

    fn hold(&self, held: bool) {
        self.0.sim.hold(held);
    }

    fn turn(&self, ahead: jiff::SignedDuration) {
        self.0.api.set_clock_ahead(ahead);
    }

    fn strayed(&self) -> u64 {
        self.0.strayed()
    }
}

/// The session service.
struct Sessions {
    stage: Stage,
    wrong: &'static str,
}

impl Upstream for Sessions {
    fn asked(&self) -> u64 {
        self.stage.sts.counter().read().requests
    }

    fn say(&self, says: Option<Says>) {
        let fault = says.map(|says| fault(says, self.wrong));
        self.stage.sts.set_fault(fault);
    }

    fn hold(&self, held: bool) {
        hold_sessions(&self.stage.sts, held);
    }

    fn turn(&self, ahead: jiff::SignedDuration) {
        self.stage.sts.set_clock_ahead(ahead);
        self.stage.ecr.api.set_clock_ahead(ahead);
    }

    fn strayed(&self) -> u64 {
        self.stage.ecr.strayed()
    }
}

/// The session service, asked with an instance's keys.
struct Instance(Machine);

impl Upstream for Instance {
    fn asked(&self) -> u64 {
        self.0.sts().counter().read().requests
    }

    fn say(&self, says: Option<Says>) {
        let fault = says.map(|says| fault(says, "InvalidClientTokenId"));
        self.0.sts().set_fault(fault);
    }

    fn hold(&self, held: bool) {
        hold_sessions(self.0.sts(), held);
    }

    fn turn(&self, ahead: jiff::SignedDuration) {
        self.0.sts().set_clock_ahead(ahead);
        self.0.ecr_api().set_clock_ahead(ahead);
    }

    fn strayed(&self) -> u64 {
        // The metadata service is asked for a session of its own, for the role, for its keys.
        let questions = self.0.metadata.counter().read().requests;
        self.0.cloud.sim.strayed() + questions.abs_diff(3 * self.asked())
    }
}

fn hold_sessions(sts: &StsApi, held: bool) {
    if held {
        sts.close_gate();
    } else {
        sts.open_gate();
    }
}

fn fault(says: Says, wrong: &'static str) -> EcrFault {
    match says {
        Says::Wrong => EcrFault::Named(wrong),
        Says::Forbidden => EcrFault::Named("AccessDenied"),
        Says::Limited(seconds) => EcrFault::Limited(seconds),
        Says::Status(status) => EcrFault::Status(status),
        Says::Body(body) => EcrFault::Body(body),
    }
}
