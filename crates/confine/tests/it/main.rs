//! Each wall holds against what an attacker would try from inside.

use confine::{Limits, Profile, SystemCalls, attempts};

const LIMITS: Limits = Limits {
    memory_bytes: 4 << 30,
    descriptors: 64,
};

#[test]
fn compute_role() {
    attempts::report(&Profile {
        limits: LIMITS,
        readable: &[],
        system_calls: SystemCalls::Compute,
    });
}

#[test]
fn network_client_role() {
    attempts::report(&Profile {
        limits: LIMITS,
        readable: &["/etc", "/there/is/no/such/file"],
        system_calls: SystemCalls::NetworkClient,
    });
}

#[test]
fn a_process_that_computes_can_do_nothing_else() {
    assert_eq!(attempts::successes("compute_role"), attempts::OF_COMPUTE);
}

#[test]
fn a_network_client_can_ask_for_names_and_connect() {
    assert_eq!(
        attempts::successes("network_client_role"),
        attempts::OF_NETWORK_CLIENT
    );
}
