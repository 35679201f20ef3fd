//! Amazon's services behind registries of ECR: their API, the session service, the token service
//! of the public registry.

use std::sync::Arc;
use std::time::Duration;

use registry_sim::EcrFault;

use super::upstreams::{Provided, Says, Upstream};
use crate::ecr::Ecr;
use crate::role::Stage;

/// What AWS gives, which lives for so long.
pub(super) async fn providers(life: Duration) -> Vec<Provided> {
    vec![
        keys("ECR", Ecr::private().await, life),
        public("ECR Public", Ecr::public_living(life).await, life),
        role("role", Stage::private().await, life),
    ]
}

fn keys(name: &'static str, ecr: Ecr, life: Duration) -> Provided {
    ecr.api.give("ecr-password", life);
    Provided {
        name,
        host: ecr.host.to_owned(),
        source: ecr.source(ecr.keys()),
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
    stage.sts.set_life(life);
    Provided {
        name,
        host: stage.ecr.host.to_owned(),
        source: stage.source(),
        clock: Arc::clone(&stage.ecr.clock),
        life,
        upstream: Box::new(stage),
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

impl Upstream for Stage {
    fn asked(&self) -> u64 {
        self.sts.counter().read().requests
    }

    fn say(&self, says: Option<Says>) {
        let fault = says.map(|says| fault(says, "InvalidClientTokenId"));
        self.sts.set_fault(fault);
    }

    fn hold(&self, held: bool) {
        if held {
            self.sts.close_gate();
        } else {
            self.sts.open_gate();
        }
    }

    fn turn(&self, ahead: jiff::SignedDuration) {
        self.sts.set_clock_ahead(ahead);
        self.ecr.api.set_clock_ahead(ahead);
    }

    fn strayed(&self) -> u64 {
        self.ecr.strayed()
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
