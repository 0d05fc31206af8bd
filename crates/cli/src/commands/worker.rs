//! `seriatim worker`: does the steps of runs that a task hub elsewhere has, until it is asked to stop. Must never show a
//! token, nor lose a step that is running when it is asked to stop.

use std::sync::Arc;

use seriatim_durable::hub::TaskHub;
use seriatim_ingest::Runner;
use seriatim_remote::credential::{Credential, StaticToken, TokenFile};
use seriatim_remote::{Address, FolderStore, RemoteHub, Secret, TlsOptions, Variables};

use crate::args::{HubArgs, WorkerArgs};
use crate::engine;
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::ui::Ui;

/// The variable that a token is taken from: an argument would be seen by everybody on the machine.
const TOKEN: &str = "SERIATIM_HUB_TOKEN";

/// Works until a signal comes, or the hub sends the worker away.
pub(super) fn execute(args: &WorkerArgs, ui: &Ui) -> Result<(), CliError> {
    let address: Address = args.hub.address.parse().map_err(|error: seriatim_remote::AddressError| {
        let help = "write --hub http://HOST:PORT, or a connection string in quotes".to_owned();
        CliError::CommandLine { message: format!("--hub: {error}"), help }
    })?;
    engine::runtime()?.block_on(async {
        let interrupt = Interrupt::listen()?;
        let hub: Arc<dyn TaskHub> = Arc::new(connect(address.clone(), &args.hub)?);
        let mut runner = Runner::start_shared(hub, engine::runner_options(&args.machine), &args.state)?;
        let _graceful = interrupt.graceful();
        ui.remark(format!("working for {address}; stop with Ctrl-C"));
        tokio::select! {
            error = runner.ended() => {
                runner.stop().await;
                Err(error.into())
            }
            () = interrupt.wanted() => {
                ui.remark("stopping when the steps that are running have ended; again to stop at once");
                runner.stop().await;
                Ok(())
            }
        }
    })
}

/// The hub that the command line names. Opens no connection.
fn connect(address: Address, args: &HubArgs) -> Result<RemoteHub, CliError> {
    let mut builder = RemoteHub::builder(address).tls(TlsOptions {
        authorities: args.ca.clone(),
        identity: args.cert.clone().zip(args.key.clone()),
        server_name: None,
    });
    if let Some(name) = &args.task_hub {
        builder = builder.task_hub(name);
    }
    if let Some(credential) = credential(args) {
        builder = builder.credential(credential);
    }
    if let Some(folder) = &args.payloads {
        let threshold = usize::try_from(args.payload_threshold).unwrap_or(usize::MAX);
        builder = builder.payloads(Arc::new(FolderStore::new(folder)), threshold);
    }
    builder.build(&Variables::of_process()).map_err(|error| CliError::failed(error.to_string()))
}

/// A token that is given apart from the address.
fn credential(args: &HubArgs) -> Option<Arc<dyn Credential>> {
    if let Some(file) = &args.token_file {
        return Some(Arc::new(TokenFile::new(file)));
    }
    let token = std::env::var(TOKEN).ok().map(Secret::new).filter(|token| !token.is_empty());
    token.map(|token| Arc::new(StaticToken::new(token)) as Arc<dyn Credential>)
}
