//! This test program as a mount server: what `tests/mount-server` starts.

use image_mount::ServeError;

#[test]
fn mount_server() {
    match image_mount::serve_inherited() {
        // Started by hand with the other tests: there is nobody to serve.
        Ok(()) | Err(ServeError::NotASocket) => {}
        Err(error) => panic!("{error}"),
    }
}
