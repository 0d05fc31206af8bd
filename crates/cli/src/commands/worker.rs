//! `seriatim worker`: does the steps of runs that a task hub elsewhere has, until it is asked to stop. Must never show a
//! token, nor lose a step that is running when it is asked to stop.

use seriatim_ingest::Runner;

use crate::args::WorkerArgs;
use crate::elsewhere;
use crate::engine;
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::ui::Ui;

/// Works until a signal comes, or the hub sends the worker away.
pub(super) fn execute(args: &WorkerArgs, ui: &Ui) -> Result<(), CliError> {
    let address = elsewhere::address(&args.hub.address)?;
    engine::runtime()?.block_on(async {
        let interrupt = Interrupt::listen()?;
        let hub = elsewhere::connect(address.clone(), &args.hub.access)?;
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
