//! AWS keys and roles at `moto`, asked as a registry of ECR's are.
//!
//! The tokens that it gives for ECR have ended in 2015, so that none is used: that one is refused
//! for its end alone shows that the question and the rest of the answer were understood.

use credential::auth::AuthError;
use registry_sim::{Authority, Login, Moto, Options};

use crate::cloud::{CloudRegistry, detect};
use crate::ecr::{KEY, KEY_ID, PRIVATE, PRIVATE_API};

const STS: &str = "sts.eu-west-1.amazonaws.com";
const ROLE: &str = "arn:aws:iam::123456789012:role/puller";

#[tokio::test]
async fn moto_understands_what_ecr_is_asked() {
    let authority = Authority::naming(&[PRIVATE, PRIVATE_API, STS]);
    let moto = Moto::start_tls(&authority);
    let lines = [(PRIVATE_API, moto.host()), (STS, moto.host())];
    let options = Options {
        login: Login::EcrLike,
        ..Options::default()
    };
    let cloud = CloudRegistry::start(PRIVATE, authority, &lines, options).await;
    let keys = [
        ("AWS_ACCESS_KEY_ID", KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", KEY),
    ];
    let role = [("AWS_ROLE_ARN", ROLE), ("AWS_EXTERNAL_ID", "id")];
    for keys in [&keys[..], &[keys, role].concat()[..]] {
        let error = cloud.error(detect(PRIVATE, keys)).await;
        assert!(matches!(error, AuthError::Unreachable { .. }), "{error}");
        let told = error.to_string();
        assert!(told.contains("with a token that has ended"), "{told}");
        assert!(told.contains(PRIVATE_API), "{told}");
    }
    assert_eq!(cloud.sim.registry().read().credential_bytes, 0);
}
