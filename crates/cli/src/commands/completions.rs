//! `seriatim completions SHELL`: a completion script, to be read by the shell. Must never install it.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::CliError;
use crate::ui::Ui;

/// Prints it.
pub(super) fn execute(shell: Shell, ui: &Ui) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "seriatim", &mut script);
    ui.write(&script)
}
