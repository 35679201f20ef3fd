//! Every command, one module each. A command gathers what was typed, calls the crates that do the
//! work, and shows the result; nothing that a gateway would need too is decided here.

pub(crate) mod audit;
pub(crate) mod cache;
pub(crate) mod containers;
pub(crate) mod context;
pub(crate) mod credential_helper;
pub(crate) mod credentials;
pub(crate) mod doctor;
pub(crate) mod image;
pub(crate) mod issuer;
pub(crate) mod kubelet;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod ps;
pub(crate) mod reference;
pub(crate) mod roles;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod serve;
pub(crate) mod state;
pub(crate) mod tasks;
pub(crate) mod tokens;
pub(crate) mod vault;
pub(crate) mod worker;
pub(crate) mod workers;
pub(crate) mod workspace;

use crate::app::App;
use crate::args::{Cli, Command, WorkerCommand};
use crate::failure::Result;

/// Runs the command and gives the exit code, which is that of a success but for `run` and what
/// answers a program of others.
pub(crate) async fn dispatch(cli: Cli) -> Result<u8> {
    let app = App::new(&cli.global);
    let app = match cli.command {
        Command::Run(args) => return Box::pin(run::run(app, *args)).await,
        Command::CredentialHelper(command) => return credential_helper::run(app, &command).await,
        _ => app?,
    };
    match cli.command {
        Command::Login(args) => login::login(&app, *args).await,
        Command::Logout(args) => login::logout(&app, &args).await,
        Command::Credentials(command) => credentials::credentials(&app, command).await,
        Command::KubeletCredentialProvider => kubelet::answer(&app).await,
        Command::Image(command) => image::image(&app, command).await,
        Command::Cache(command) => cache::cache(&app, &command),
        Command::Secret(command) => secret::secret(&app, command).await,
        Command::Reference(args) => reference::reference(&args.image, app.output),
        Command::Ps => ps::ps(&app),
        Command::Stop(args) => ps::stop(&app, &args).await,
        Command::Serve(args) => serve::serve(&app, &args.into()).await,
        Command::Gateway(args) => serve::serve(&app, &args.into()).await,
        Command::Worker(WorkerCommand::Run(args)) => worker::run(&app, args).await,
        Command::Worker(command) => workers::workers(&app, command).await,
        Command::Workspace(command) => workspace::workspace(&app, &command).await,
        Command::Tokens(command) => tokens::tokens(&app, command).await,
        Command::Tasks(command) => tasks::tasks(&app, command).await,
        Command::Logs(args) => logs::logs(&app, &args).await,
        Command::Containers(command) => containers::containers(&app, command).await,
        Command::Context(command) => context::context(&app, command),
        Command::Doctor => doctor::doctor(&app.settings, app.output).await,
        Command::Issuer(command) => issuer::issuer(&app, command).await,
        Command::Audit(command) => audit::audit(&app, command).await,
        Command::Vault(command) => vault::vault(&app, command).await,
        Command::State(command) => state::state(&app, command).await,
        Command::WorkerServer(args) => worker::serve(&app, args).await,
        Command::Run(_)
        | Command::CredentialHelper(_)
        | Command::MountServer
        | Command::MountJanitor { .. }
        | Command::LayerIndexer { .. } => Ok(()),
    }?;
    Ok(0)
}
