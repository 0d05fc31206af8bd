//! The commands, one in each file. A command reads its arguments, calls the crates that do the work, and says what came
//! of it; it must never do the work itself.

mod cancel;
mod check;
mod compare;
mod completions;
mod demo;
mod init;
mod ledger;
mod plan;
mod quarantine;
pub(crate) mod recover;
mod replay;
pub(crate) mod run;
mod runs;
mod schema;
mod serve;
mod serve_http;
mod show;
pub(crate) mod summary;
pub(crate) mod verify;
mod who;
mod worker;

use crate::args::Command;
use crate::error::CliError;
use crate::ui::Ui;

/// Does what the command line says.
pub(crate) fn execute(command: Command, ui: &Ui) -> Result<(), CliError> {
    match command {
        Command::Demo(args) => demo::execute(&args, ui),
        Command::Init(args) => init::execute(&args, ui),
        Command::Check(args) => check::execute(&args, ui),
        Command::Plan(args) => plan::execute(&args, ui),
        Command::Run(args) => run::execute(&args, ui),
        Command::Quarantine(args) => quarantine::execute(&args, ui),
        Command::Replay(args) => replay::execute(&args, ui),
        Command::Recover(args) => recover::execute(&args, ui),
        Command::Runs(args) => runs::execute(&args, ui),
        Command::Show(args) => show::execute(&args, ui),
        Command::Cancel(args) => cancel::execute(&args, ui),
        Command::Verify(args) => verify::execute(&args, ui),
        Command::Who(args) => who::execute(&args, ui),
        Command::Ledger(args) => ledger::execute(&args, ui),
        Command::Compare(args) => compare::execute(&args, ui),
        Command::Worker(args) => worker::execute(&args, ui),
        Command::Serve(args) => serve::execute(&args, ui),
        Command::Schema => schema::execute(ui),
        Command::Completions { shell } => completions::execute(shell, ui),
    }
}
