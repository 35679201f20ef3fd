//! What happens to a registry while an image is read from it.

use std::sync::Arc;
use std::time::Duration;

use registry_sim::RegistrySim;

use super::judging::Known;
use super::reading::{NEXT_PASSWORD, Reading, login, port};
use super::{Case, Event};
use crate::support::REPOSITORY;

/// A slow token service takes so long. No limit of ours is as short.
const LONG: Duration = Duration::from_secs(2);

impl Reading {
    pub(super) async fn happen(&self, case: &Case) {
        let sim = &self.sim;
        *self.at_event.lock().unwrap() = Some(Known::of(sim));
        match &case.event {
            Event::Nothing => {}
            Event::TokensEnd => sim.expire_tokens(),
            Event::LocationsEnd => sim.expire_locations(),
            Event::TokensAndLocationsEnd => {
                sim.expire_tokens();
                sim.expire_locations();
            }
            Event::PasswordChanges => self.change_password(case).await,
            Event::ServiceIsSlow => self.slow_down(),
            Event::ServiceIsSilent => sim.close_token_gate(),
            Event::TokensEndInSilence => {
                sim.expire_tokens();
                sim.close_token_gate();
            }
            Event::ServiceIsSilentOnce => self.be_silent_once(),
            Event::Faults(change) => sim.faults(change),
            Event::TokensEndAnd(change) => {
                sim.expire_tokens();
                sim.faults(change);
            }
            Event::Redirects(target) => {
                sim.faults(|faults| faults.redirect_to = Some(filled(sim, target)));
            }
            Event::Strays(target, next) => sim.faults(|faults| {
                faults.redirect_to = Some(filled(sim, target));
                faults.stranger_redirects_to = next.as_ref().map(|next| filled(sim, next));
            }),
            Event::Realm(realm) => {
                sim.expire_tokens();
                let realm = filled(sim, realm);
                let challenge = format!("Bearer realm=\"{realm}\",service=\"sim\"");
                sim.faults(|faults| faults.challenge = Some(challenge));
            }
            Event::LayerIsRemoved => sim.remove_blob(REPOSITORY, &self.image.layers[1].digest),
        }
    }

    async fn change_password(&self, case: &Case) {
        self.sim.set_password(NEXT_PASSWORD);
        let request = login(case, &self.sim, self.sim.host(), NEXT_PASSWORD);
        let login = self.broker.login(self.workspace, request).await;
        login.expect(&case.what);
    }

    /// The next token is given out long after it was asked for.
    fn slow_down(&self) {
        self.sim.expire_tokens();
        self.sim.close_token_gate();
        let sim = Arc::clone(&self.sim);
        let asked = sim.token_requests().read().requests;
        tokio::spawn(async move {
            sim.token_requests().wait_for_requests(asked + 1).await;
            tokio::time::sleep(LONG).await;
            sim.open_token_gate();
        });
    }

    /// The first question is held until it is asked again, which it is once it was given up.
    fn be_silent_once(&self) {
        self.sim.expire_tokens();
        self.sim.close_token_gate();
        let sim = Arc::clone(&self.sim);
        let asked = sim.token_requests().read().requests;
        tokio::spawn(async move {
            sim.token_requests().wait_for_requests(asked + 2).await;
            sim.open_token_gate();
        });
    }
}

/// A line's text with the hosts of this registry in it.
pub(super) fn filled(sim: &RegistrySim, text: &str) -> String {
    let stranger = sim.stranger_url();
    let (_, stranger) = stranger.split_once("://").unwrap();
    text.replace("{registry}", sim.host())
        .replace("{port}", port(sim.realm_host()))
        .replace("{stranger}", stranger)
        .replace("{stranger-port}", port(stranger))
}
