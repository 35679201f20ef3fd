//! What must be recorded, whatever the disk says for a while.

use std::time::Duration;

use control_store::StoreError;

/// Pause before something is recorded again that the store would not take, as on a full disk.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Asks the store until it answers: what was accepted must come to an end that is recorded, also
/// when a disk is full for a while. What no time mends is answered at once.
pub(super) async fn persist<T, F>(mut ask: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        let answer = ask().await;
        if let Err(error) = &answer {
            tracing::error!(error = error as &dyn std::error::Error, "not recorded");
            if error.may_pass() {
                tokio::time::sleep(STORE_PAUSE).await;
                continue;
            }
        }
        return answer;
    }
}
