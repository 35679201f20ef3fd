//! What every provider keeps, whatever it makes auth of. A further one is a line in `providers`,
//! and an [`Upstream`].

use std::sync::Arc;
use std::time::Duration;

use credential::Credential;
use credential::auth::{AuthError, AuthSource};
use registry_sim::{EcrFault, Login, Options, Realm, RegistrySim};
use token_exchange::{Clock, TokenExchange};

use crate::ecr::{Ecr, KEY};
use crate::role::Stage;
use crate::support::{
    HandClock, PASSWORD, REPOSITORY, USERNAME, ask, dialer, endpoint, identity, image,
};

/// What is said instead of what was asked for.
#[derive(Clone)]
enum Says {
    /// That the credential is wrong.
    Wrong,
    /// That it is good, and not for this.
    Forbidden,
    Limited(u32),
    Status(u16),
    Body(String),
}

/// Who gives a provider what it hands out.
trait Upstream {
    fn asked(&self) -> u64;
    fn say(&self, says: Option<Says>);
    fn hold(&self, held: bool);
    /// Its own clock, where it has one.
    fn turn(&self, _ahead: jiff::SignedDuration) {}
    /// Requests at hosts that have no part in it.
    fn strayed(&self) -> u64;
}

/// A provider before who gives it something.
struct Provided {
    name: &'static str,
    host: String,
    source: Arc<dyn AuthSource>,
    clock: Arc<HandClock>,
    upstream: Box<dyn Upstream>,
}

impl Provided {
    async fn serial(&self) -> u64 {
        self.asked().await.expect(self.name).serial
    }

    async fn asked(&self) -> Result<credential::auth::RegistryAuth, AuthError> {
        ask(self.source.as_ref(), &self.host, None).await
    }

    /// Time passes, here and there.
    fn turn(&self, by: Duration) {
        self.clock.turn(by);
        let ahead = self.clock.now().duration_since(jiff::Timestamp::now());
        self.upstream.turn(ahead);
    }
}

/// Each provider, given what lives for so long.
async fn providers(life: Duration) -> Vec<Provided> {
    let password = |name: &str| Credential::basic(name.to_owned(), PASSWORD.to_owned().into());
    vec![
        stored("password", password(USERNAME), life).await,
        stored("identity token", password("<token>"), life).await,
        keys("ECR", Ecr::private().await, life),
        public("ECR Public", Ecr::public_living(life).await),
        role("role", Stage::private().await, life),
    ]
}

impl Upstream for RegistrySim {
    fn asked(&self) -> u64 {
        self.token_requests().read().requests
    }

    fn say(&self, says: Option<Says>) {
        self.faults(|faults| {
            faults.token_says = None;
            faults.token_too_many_requests = 0;
            faults.token_says = match says {
                None => None,
                Some(Says::Wrong) => Some((401, String::new())),
                Some(Says::Forbidden) => Some((403, String::new())),
                Some(Says::Status(status)) => Some((status, String::new())),
                Some(Says::Body(body)) => Some((200, body)),
                Some(Says::Limited(seconds)) => {
                    faults.token_too_many_requests = u32::MAX;
                    faults.retry_after = Some(seconds.to_string());
                    None
                }
            };
        });
    }

    fn hold(&self, held: bool) {
        if held {
            self.close_token_gate();
        } else {
            self.open_token_gate();
        }
    }

    fn strayed(&self) -> u64 {
        self.stranger().read().requests + self.storage().read().requests
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

async fn stored(name: &'static str, credential: Credential, life: Duration) -> Provided {
    let sim = RegistrySim::start(Options {
        login: Login::Bearer(Realm::SameHost),
        token_life: life,
        ..Options::default()
    })
    .await;
    sim.push(REPOSITORY, "latest", &image());
    let clock = HandClock::new();
    let exchange = TokenExchange::new(dialer(), Arc::clone(&clock) as Arc<dyn Clock>);
    Provided {
        name,
        host: sim.host().to_owned(),
        source: exchange.source(endpoint(sim.host()), identity(credential)),
        clock,
        upstream: Box::new(sim),
    }
}

fn keys(name: &'static str, ecr: Ecr, life: Duration) -> Provided {
    ecr.api.give("ecr-password", life);
    Provided {
        name,
        host: ecr.host.to_owned(),
        source: ecr.source(ecr.keys()),
        clock: Arc::clone(&ecr.clock),
        upstream: Box::new(ecr),
    }
}

fn public(name: &'static str, ecr: Ecr) -> Provided {
    Provided {
        name,
        host: ecr.host.to_owned(),
        source: ecr.source(ecr.keys()),
        clock: Arc::clone(&ecr.clock),
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
        upstream: Box::new(stage),
    }
}

const LIFE: Duration = Duration::from_mins(10);
const NEAR_ITS_END: Duration = Duration::from_secs(570);

#[tokio::test]
async fn many_callers_ask_once_and_nobody_else() {
    for provided in providers(LIFE).await {
        let all = futures::future::join_all((0..100).map(|_| provided.serial())).await;
        assert!(
            all.iter().all(|serial| *serial == all[0]),
            "{}",
            provided.name
        );
        assert_eq!(provided.upstream.asked(), 1, "{}", provided.name);
        assert_eq!(provided.upstream.strayed(), 0, "{}", provided.name);
    }
}

#[tokio::test]
async fn whoever_asks_first_may_leave() {
    for provided in providers(LIFE).await {
        provided.upstream.hold(true);
        let source = Arc::clone(&provided.source);
        let host = provided.host.clone();
        let first = tokio::spawn(async move { ask(source.as_ref(), &host, None).await });
        while provided.upstream.asked() == 0 {
            tokio::task::yield_now().await;
        }
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        provided.upstream.hold(false);
        provided.serial().await;
        assert_eq!(provided.upstream.asked(), 1, "{}", provided.name);
    }
}

#[tokio::test]
async fn what_nears_its_end_is_renewed_while_it_is_handed_out() {
    for provided in providers(LIFE).await {
        let first = provided.serial().await;
        provided.turn(NEAR_ITS_END);
        provided.upstream.hold(true);
        assert_eq!(provided.serial().await, first, "{}", provided.name);
        while provided.upstream.asked() < 2 {
            tokio::task::yield_now().await;
        }
        provided.upstream.hold(false);
        provided.turn(Duration::from_mins(1));
        assert_ne!(provided.serial().await, first, "{}", provided.name);
        assert_eq!(provided.upstream.asked(), 2, "{}", provided.name);
    }
}

#[tokio::test]
async fn what_lives_for_a_second_is_handed_out_and_asked_for_again() {
    for provided in providers(Duration::from_secs(1)).await {
        let first = provided.serial().await;
        provided.turn(Duration::from_secs(2));
        assert_ne!(provided.serial().await, first, "{}", provided.name);
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_by_minutes_leaves_a_life_as_it_is() {
    let off = Duration::from_mins(5);
    for is_ahead in [true, false] {
        for provided in providers(LIFE).await {
            if is_ahead {
                provided.clock.turn(off);
            } else {
                provided.clock.turn_back(off);
            }
            let auth = provided.asked().await.expect(provided.name);
            let left = auth.not_after.expect("an end");
            let left = left.duration_since(provided.clock.now()).as_secs();
            assert!(left > 240 && left <= 600, "{} {left}", provided.name);
        }
    }
}

#[tokio::test]
async fn refusals_are_told_apart_and_show_no_secret() {
    let cases = [
        (Says::Wrong, "bad credential"),
        (Says::Forbidden, "no permission"),
        (Says::Limited(7), "limited"),
        (Says::Status(500), "unreachable"),
        (Says::Body("<html>garbage".to_owned()), "unreachable"),
        (Says::Body("x".repeat(10_000_000)), "unreachable"),
    ];
    for (says, kind) in cases {
        for provided in providers(LIFE).await {
            provided.upstream.say(Some(says.clone()));
            let error = provided.asked().await.expect_err(provided.name);
            let told = match &error {
                AuthError::BadCredential { .. } => "bad credential",
                AuthError::NoPermission { .. } => "no permission",
                AuthError::RateLimited { retry_after, .. } => {
                    assert_eq!(*retry_after, Some(Duration::from_secs(7)));
                    "limited"
                }
                AuthError::Unreachable { .. } => "unreachable",
                _ => "another",
            };
            assert_eq!(told, kind, "{}: {error}", provided.name);
            let shown = format!("{error} {error:?} {:?}", provided.source);
            for secret in [PASSWORD, KEY, "garbage", "xxxx"] {
                assert!(!shown.contains(secret), "{}: {shown}", provided.name);
            }
            let asked = provided.upstream.asked();
            let again = provided.asked().await.is_err();
            let is_asked_again = provided.upstream.asked() > asked;
            assert!(again, "{}", provided.name);
            assert_eq!(is_asked_again, kind == "unreachable", "{}", provided.name);
        }
    }
}

#[tokio::test]
async fn a_token_that_was_given_is_handed_out_as_it_is() {
    let token = Credential::registry_token("ready-made-token".to_owned().into());
    let provided = stored("given token", token, LIFE).await;
    let first = provided.serial().await;
    provided.turn(Duration::from_hours(24));
    assert_eq!(provided.serial().await, first);
    assert_eq!(
        (provided.upstream.asked(), provided.upstream.strayed()),
        (0, 0)
    );
}
