//! This test program as a mount server: what `tests/mount-server` starts. And as one that hostile
//! bytes have taken over.

use confine::attempts;
use image_mount::ServeError;

#[test]
fn taken_over_role() {
    attempts::report(&image_mount::SERVER_PROFILE);
}

#[test]
fn a_mount_process_that_was_taken_over_has_names_and_the_network() {
    assert_eq!(
        attempts::successes("role::taken_over_role"),
        attempts::OF_NETWORK_CLIENT
    );
}

#[test]
fn mount_server() {
    match image_mount::serve_inherited() {
        // Started by hand with the other tests: there is nobody to serve.
        Ok(()) | Err(ServeError::NotASocket) => {}
        Err(error) => panic!("{error}"),
    }
}
