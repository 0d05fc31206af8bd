//! `seriatim`: splits denormalised Parquet into tables with gap-free sequential IDs. This is the program: the command
//! line, the messages, the exit codes. Must never do the ingest's work itself.

mod args;
mod commands;
mod compare;
mod demo;
mod elsewhere;
mod engine;
mod error;
mod http_hubs;
mod http_runs;
mod interrupt;
mod lineage;
mod state;
mod ui;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Global};
use crate::error::CliError;
use crate::ui::Ui;

/// Scans and writes allocate large buffers of many sizes in every thread at once; this allocator finds room for them in
/// what is free, where others take fresh memory, which the system has to clear. `.cargo/config.toml` has its settings.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ui = Ui::new(&cli.global);
    match start_log(&cli.global, &ui).and_then(|()| commands::execute(cli.command, &ui)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.report(&ui);
            error.exit_code()
        }
    }
}

/// Sends what the crates log to stderr; warnings, unless more is asked for.
fn start_log(global: &Global, ui: &Ui) -> Result<(), CliError> {
    let wanted = global.log.as_deref().unwrap_or("warn");
    let filter = EnvFilter::builder().parse(wanted).map_err(|error| CliError::CommandLine {
        message: format!("--log {wanted}: {error}"),
        help: "use error, warn, info, debug or trace, or a filter such as seriatim_hub=debug".to_owned(),
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(ui.colors_stderr()).init();
    Ok(())
}
