//! `holdfast state backup|restore`.

use std::path::Path;

use control_store::Onto;
use serde::Serialize;

use super::serve;
use crate::app::App;
use crate::args::StateCommand;
use crate::failure::Result;

pub(crate) async fn state(app: &App, command: StateCommand) -> Result<()> {
    match command {
        StateCommand::Backup { file } => backup(app, &file).await,
        StateCommand::Restore { file, replace } => {
            let onto = if replace {
                Onto::Whatever
            } else {
                Onto::Nothing
            };
            restore(app, &file, onto).await
        }
    }
}

#[derive(Debug, Serialize)]
struct BackedUp {
    file: String,
    bytes: u64,
}

async fn backup(app: &App, file: &Path) -> Result<()> {
    let report = control_store::back_up(&app.store_place()?, file).await?;
    let done = BackedUp {
        file: report.path.display().to_string(),
        bytes: report.bytes,
    };
    app.output.show(&done, |done| {
        format!(
            "wrote {}; secrets are in the vault, and what was uploaded and indexed in {}",
            done.file,
            app.settings.data_dir.display()
        )
    })
}

#[derive(Debug, Serialize)]
struct Restored {
    file: String,
    rows: u64,
}

async fn restore(app: &App, file: &Path, onto: Onto) -> Result<()> {
    let place = app.store_place()?;
    let _only_one = serve::keep_gateways_out(app).await?;
    let rows = control_store::restore(file, &place, onto).await?;
    let done = Restored {
        file: file.display().to_string(),
        rows,
    };
    app.output.show(&done, |done| {
        format!("restored the state from {}", done.file)
    })?;
    app.note_unread_files();
    Ok(())
}
