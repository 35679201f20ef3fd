//! A probe that finds what a test says, and holds builds up when told to.

use std::sync::{Mutex, PoisonError};

use control_store::Python;
use futures::future::BoxFuture;
use gateway::{OpenImage, Problem, PythonProbe};
use ids::WorkspaceId;
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct FakeProbe {
    version: Mutex<Option<String>>,
    asked: Mutex<Vec<Vec<String>>>,
    is_open: watch::Sender<bool>,
}

impl Default for FakeProbe {
    fn default() -> Self {
        Self {
            version: Mutex::new(Some("3.11.2".to_owned())),
            asked: Mutex::default(),
            is_open: watch::Sender::new(true),
        }
    }
}

impl FakeProbe {
    /// Finds this from now on.
    pub(crate) fn finds(&self, version: Option<&str>) {
        *self.version.lock().unwrap() = version.map(str::to_owned);
    }

    /// What was looked for each time.
    pub(crate) fn asked(&self) -> Vec<Vec<String>> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }

    /// Whether it answers at once.
    pub(crate) fn set_open(&self, is_open: bool) {
        self.is_open.send_replace(is_open);
    }
}

impl PythonProbe for FakeProbe {
    fn probe<'a>(
        &'a self,
        _workspace: WorkspaceId,
        image: &'a OpenImage,
        interpreters: &'a [String],
    ) -> BoxFuture<'a, Result<Option<Python>, Problem>> {
        Box::pin(async move {
            assert!(image.image.config.is_some(), "a container needs it");
            self.asked.lock().unwrap().push(interpreters.to_vec());
            let mut opened = self.is_open.subscribe();
            opened.wait_for(|is_open| *is_open).await.unwrap();
            let version = self.version.lock().unwrap().clone();
            Ok(version.map(|version| Python {
                program: interpreters[0].clone(),
                version,
            }))
        })
    }
}
