//! Renewal, seen by what is shown; handshakes are tested over the port.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use registry_sim::{Authority, ServerPem};

use super::*;

/// Far more than a look at two files takes.
const PATIENCE: Duration = Duration::from_mins(1);

fn write(directory: &Path, pem: &ServerPem) -> TlsFiles {
    let files = TlsFiles {
        certificate: directory.join("chain.pem"),
        key: directory.join("key.pem"),
    };
    std::fs::write(&files.certificate, &pem.certificate).unwrap();
    std::fs::write(&files.key, &pem.key).unwrap();
    set_permissions(&files.key, Permissions::from_mode(0o600)).unwrap();
    files
}

fn shown(tls: &ServerTls) -> Vec<u8> {
    let now = lock(&tls.shown.now);
    now.identity.certified.cert[0].to_vec()
}

fn refusal(tls: &ServerTls) -> Option<String> {
    lock(&tls.shown.now).refusal.clone()
}

#[test]
fn a_pair_that_is_wrong_changes_nothing_and_a_right_one_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (first, second) = (authority.server_pem(), authority.server_pem());
    let files = write(directory.path(), &first);
    let tls = ServerTls::open(files.clone()).unwrap();
    let before = shown(&tls);
    tls.renew();
    assert_eq!(shown(&tls), before);
    assert_eq!(refusal(&tls), None);

    // One of two has been replaced.
    std::fs::write(&files.certificate, &second.certificate).unwrap();
    tls.renew();
    assert_eq!(shown(&tls), before);
    let told = refusal(&tls).expect("it is told");
    assert!(told.contains("is not that of"), "{told}");
    tls.renew();
    assert_eq!(refusal(&tls), Some(told));

    std::fs::write(&files.key, &second.key).unwrap();
    tls.renew();
    let renewed = shown(&tls);
    assert_ne!(renewed, before);
    assert_eq!(refusal(&tls), None);

    std::fs::remove_file(&files.key).unwrap();
    tls.renew();
    assert_eq!(shown(&tls), renewed);
    assert!(refusal(&tls).expect("told").contains("cannot read"));
}

#[tokio::test]
async fn files_are_looked_at_again_and_again() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let tls = ServerTls::open(write(directory.path(), &authority.server_pem())).unwrap();
    let looking = tokio::spawn(tls.clone().renew_every(Duration::from_millis(1)));
    for _ in 0..2 {
        let before = shown(&tls);
        write(directory.path(), &authority.server_pem());
        let renewed = async {
            while shown(&tls) == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, renewed)
            .await
            .expect("it is seen");
    }
    looking.abort();
}
