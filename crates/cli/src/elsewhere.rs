//! Task hubs elsewhere: how to reach one, and runs that its workers carry out. Must never show a token, nor end a run
//! because whoever waits for it does not wait any longer.

use std::sync::Arc;

use seriatim_durable::hub::TaskHub;
use seriatim_ingest::{Project, RunReport, RunStatus, Runner};
use seriatim_remote::credential::{Credential, StaticToken, TokenFile};
use seriatim_remote::{Address, FolderStore, RemoteHub, Secret, TlsOptions, Variables};

use crate::args::{HubAccess, RunArgs};
use crate::engine::{self, runner_options};
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::lineage::{self, Lineage};
use crate::ui::Ui;

/// The variable that a token is taken from: an argument would be seen by everybody on the machine.
const TOKEN: &str = "SERIATIM_HUB_TOKEN";

/// An address as the command line has it.
pub(crate) fn address(text: &str) -> Result<Address, CliError> {
    text.parse().map_err(|error: seriatim_remote::AddressError| {
        let help = "write --hub http://HOST:PORT, or a connection string in quotes".to_owned();
        CliError::CommandLine { message: format!("--hub: {error}"), help }
    })
}

/// Has a run carried out by the workers of a hub elsewhere, and waits for its end, unless that is not wanted. A run of
/// the pipeline that the hub has already is waited for instead; another one follows for files that came since.
pub(crate) async fn run(
    project: &Project,
    hub: &str,
    args: &RunArgs,
    told: Option<&Lineage>,
    ui: &Ui,
    interrupt: &Interrupt,
) -> Result<Vec<RunReport>, CliError> {
    let at = address(hub)?;
    let mut options = runner_options(&args.machine);
    options.work.clone_from(&args.work);
    let runner = Runner::connect(connect(at.clone(), &args.access)?, &at.to_string(), options, &project.state())?;
    let _graceful = interrupt.graceful();
    let outcome = tokio::select! {
        outcome = begun_and_ended(&runner, project, args.detach, told, ui) => outcome,
        () = interrupt.wanted() => {
            ui.remark("the run goes on with its workers; run again to wait for it, or `seriatim cancel` it");
            Err(CliError::Interrupted)
        }
    };
    runner.stop().await;
    outcome
}

async fn begun_and_ended(
    runner: &Runner,
    project: &Project,
    detach: bool,
    told: Option<&Lineage>,
    ui: &Ui,
) -> Result<Vec<RunReport>, CliError> {
    let mut reports = Vec::new();
    loop {
        let begun = runner.begin(project, None).await?;
        let word = if begun.resumed { "waiting for" } else { "begun:" };
        ui.remark(format!("{word} {}", begun.run));
        lineage::begun(told, &begun, |why| ui.remark(why)).await;
        if detach {
            return Ok(vec![begun]);
        }
        let report = runner.finish(begun).await?;
        lineage::ended(told, &report, |why| ui.remark(why)).await;
        let again = engine::goes_on(&report);
        if reports.is_empty() || report.status != RunStatus::NothingToDo {
            reports.push(report);
        }
        if !again {
            return Ok(reports);
        }
    }
}

/// The hub that the command line names. Opens no connection.
pub(crate) fn connect(address: Address, args: &HubAccess) -> Result<Arc<dyn TaskHub>, CliError> {
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
    let hub = builder.build(&Variables::of_process()).map_err(|error| CliError::failed(error.to_string()))?;
    Ok(Arc::new(hub))
}

/// A token that is given apart from the address.
fn credential(args: &HubAccess) -> Option<Arc<dyn Credential>> {
    if let Some(file) = &args.token_file {
        return Some(Arc::new(TokenFile::new(file)));
    }
    let token = std::env::var(TOKEN).ok().map(Secret::new).filter(|token| !token.is_empty());
    token.map(|token| Arc::new(StaticToken::new(token)) as Arc<dyn Credential>)
}
