//! `seriatim demo`: makes records, ingests them as `run` would, audits the result and shows it, with the time that
//! each part took. Must never count the making of the data as ingest, nor measure anything else than `run` does.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use seriatim_ingest::{Project, RunReport, VerifyReport};

use super::{run, summary, verify};
use crate::args::DemoArgs;
use crate::demo::{DemoFolder, Made, Parameters, first_rows};
use crate::engine::{self, Options};
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::state;
use crate::ui::table::{Side, Table};
use crate::ui::{Tone, Ui, human};

/// The window of the case that this project started from: two million records had to be in within two hours.
const WINDOW_SECONDS: f64 = 2.0 * 3600.0;
/// The rows that are shown of each table.
const ROWS_SHOWN: usize = 3;

/// The document of `demo --json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    folder: &'a Path,
    pipeline: &'a Path,
    data: Made,
    runs: &'a [RunReport],
    verify: Option<&'a VerifyReport>,
    seconds: Seconds,
    /// The ingest's part of a two-hour window, in percent.
    window_percent: Option<f64>,
}

/// Wall time by part.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Seconds {
    generate: f64,
    ingest: Option<f64>,
    verify: Option<f64>,
}

/// Makes, runs, audits, shows.
pub(super) fn execute(args: &DemoArgs, ui: &Ui) -> Result<(), CliError> {
    let runtime = engine::runtime()?;
    let mut folder = DemoFolder::open(&args.folder)?;
    start_afresh(&folder, &runtime, ui)?;
    let made = make_data(&mut folder, args, ui)?;
    let pipeline = folder.pipeline();
    if args.data_only {
        return data_only(args, &pipeline, made, ui);
    }
    let project = state::open_project(&pipeline, &[])?;
    ui.remark(format!("ingesting with {}", pipeline.display()));
    let started = Instant::now();
    let options = Options::new(&args.machine, true);
    let reports = runtime.block_on(async {
        let interrupt = Interrupt::listen()?;
        engine::run(&project, &options, ui, &interrupt).await
    })?;
    let ingest = started.elapsed().as_secs_f64();
    reports.iter().try_for_each(run::ended_well)?;
    ui.remark("verifying the outputs");
    let started = Instant::now();
    let audit = seriatim_ingest::verify(&project, options.runner.workers)?;
    let seconds =
        Seconds { generate: made.seconds, ingest: Some(ingest), verify: Some(started.elapsed().as_secs_f64()) };
    if args.json {
        ui.json(&Document {
            folder: &args.folder,
            pipeline: &pipeline,
            data: made,
            runs: &reports,
            verify: Some(&audit),
            seconds,
            window_percent: Some(window_percent(ingest)),
        })?;
    } else {
        for report in &reports {
            print_tables(report, &project, ui)?;
        }
        print_audit(&audit, ui)?;
        print_time(made, &reports, seconds, ui)?;
        print_next(&folder, args, ui)?;
    }
    verify::held(&audit)
}

fn start_afresh(folder: &DemoFolder, runtime: &tokio::runtime::Runtime, ui: &Ui) -> Result<(), CliError> {
    if folder.state().is_dir() {
        // A run may be at work here; taking its state away would break it.
        runtime.block_on(engine::wait_until_free(&folder.state(), ui))?;
    }
    if folder.clear()? {
        ui.remark("starting afresh: removed the state and the tables of the demo before");
    }
    Ok(())
}

fn make_data(folder: &mut DemoFolder, args: &DemoArgs, ui: &Ui) -> Result<Made, CliError> {
    // More files than records would leave files without any.
    let files = u64::from(args.files).min(args.rows) as u32;
    let parameters = Parameters { rows: args.rows, files, seed: args.seed };
    let what = format!("{} in {}", human::counted(args.rows, "record"), human::counted(files.into(), "file"));
    ui.remark(format!("making {what} in {}", folder.data().display()));
    let made = folder.make_data(parameters, engine::workers(args.machine.workers))?;
    if made.reused {
        ui.remark("an earlier demo made them: kept");
    }
    if let Some(kept) = folder.write_pipeline()? {
        ui.remark(format!("the pipeline file was edited; that one is kept as {}", kept.display()));
    }
    Ok(made)
}

fn data_only(args: &DemoArgs, pipeline: &Path, made: Made, ui: &Ui) -> Result<(), CliError> {
    if args.json {
        let seconds = Seconds { generate: made.seconds, ..Seconds::default() };
        return ui.json(&Document {
            folder: &args.folder,
            pipeline,
            data: made,
            runs: &[],
            verify: None,
            seconds,
            window_percent: None,
        });
    }
    ui.line(format!("{}: the pipeline file", pipeline.display()))
}

fn window_percent(seconds: f64) -> f64 {
    seconds / WINDOW_SECONDS * 100.0
}

fn print_tables(report: &RunReport, project: &Project, ui: &Ui) -> Result<(), CliError> {
    summary::print(report, ui)?;
    for table in &report.tables {
        let Some(file) = table.files.first() else { continue };
        let name = ui.toned(Tone::Strong, &table.table);
        ui.line(format!("\n{name}: the first of {}", human::counted(table.total_rows, "row")))?;
        let file = project.folder().join(&project.pipeline().output.path).join(file);
        ui.lines(first_rows(&file, ROWS_SHOWN)?.lines("  "))?;
    }
    Ok(())
}

fn print_audit(audit: &VerifyReport, ui: &Ui) -> Result<(), CliError> {
    ui.line(format!("\n{}: an audit of the files alone", ui.toned(Tone::Strong, "verify")))?;
    verify::print(audit, ui)
}

fn print_time(made: Made, reports: &[RunReport], seconds: Seconds, ui: &Ui) -> Result<(), CliError> {
    let records: u64 = reports.iter().map(|report| report.records).sum();
    let (ingest, audit) = (seconds.ingest.unwrap_or_default(), seconds.verify.unwrap_or_default());
    let how = if made.reused { "kept from an earlier demo".to_owned() } else { human::bytes(made.bytes) };
    let mut table = Table::new(&[("time", Side::Left), ("", Side::Right), ("", Side::Left)]);
    table.row(["making the records".to_owned(), human::seconds(seconds.generate), how]);
    let rate = format!("{} records/s, with opening and closing the journal", human::rate(records, ingest));
    table.row(["ingest".to_owned(), human::seconds(ingest), rate]);
    table.row(["verify".to_owned(), human::seconds(audit), String::new()]);
    ui.line("")?;
    ui.lines(table.lines(""))?;
    let took = human::seconds(ingest);
    let percent = window_percent(ingest);
    let text = format!("the ingest took {took}: {percent:.3} % of a two-hour window");
    ui.line(format!("\n{}", ui.toned(Tone::Good, &text)))
}

fn print_next(folder: &DemoFolder, args: &DemoArgs, ui: &Ui) -> Result<(), CliError> {
    let program = program();
    let pipeline = folder.pipeline();
    let pipeline = pipeline.display();
    let (later, data) = (folder.later(), folder.data());
    let file = Parameters { rows: args.rows, files: u64::from(args.files).min(args.rows) as u32, seed: args.seed };
    let file = later.join(file.later_name());
    ui.line(format!("\n{}", ui.toned(Tone::Strong, "try next")))?;
    let mut table = Table::new(&[("", Side::Left), ("", Side::Left)]);
    for (command, what) in [
        (format!("{program} run {pipeline}"), "again: there is nothing to do"),
        (format!("mv {} {}/", file.display(), data.display()), "a file for another month arrives"),
        (format!("{program} plan {pipeline}"), "what the next run will do: new keys, exact IDs"),
        (format!("{program} run {pipeline}"), "only that file; IDs go on where they ended"),
        (format!("{program} verify {pipeline}"), "audit all outputs"),
        (format!("{program} runs --pipeline {pipeline}"), "the runs so far"),
    ] {
        table.row([command, format!("# {what}")]);
    }
    ui.lines(table.lines("  ").into_iter().skip(1))
}

/// The program as it was called, so that the commands above can be copied.
fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    if called.contains('/') { called } else { "seriatim".to_owned() }
}
