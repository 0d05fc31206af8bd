//! The program itself, as a process of its own: timed, then killed in the middle of another run and started again. Must
//! never be measured with anything left from an earlier run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use seriatim_ingest::{Project, RunReport, VerifyReport, verify};
use seriatim_pipeline::model::Pipeline;

use super::Measured;
use crate::args::CompareArgs;
use crate::error::CliError;

/// The document of `run --json`.
#[derive(Deserialize)]
struct Document {
    runs: Vec<RunReport>,
}

/// Runs the pipeline with output and state in `scratch`; then again in another place, killed in the middle.
pub(super) fn measure(
    args: &CompareArgs,
    project: &Project,
    scratch: &Path,
    fan_out: bool,
) -> Result<Measured, CliError> {
    let undisturbed = scratch.join("undisturbed");
    let since = Instant::now();
    let output = command(args, &undisturbed, fan_out)?.output().map_err(|error| cannot_start(&error))?;
    let seconds = since.elapsed().as_secs_f64();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(CliError::failed(format!("the run that was to be measured failed: {said}")));
    }
    let document: Document = serde_json::from_slice(&output.stdout)
        .map_err(|error| CliError::failed(format!("the run that was measured said something else: {error}")))?;
    let report = document.runs.first().ok_or_else(|| CliError::failed("the run that was measured did nothing"))?;
    let reserving: f64 = report.seconds.iter().filter(|(step, _)| step == "reserve").map(|(_, s)| s).sum();
    let (duplicates, gaps) = audit(project, &undisturbed)?;

    let (killed, place) = kill_in_the_middle(args, scratch, fan_out, seconds)?;
    let again = command(args, &place, fan_out)?.output().map_err(|error| cannot_start(&error))?;
    if !again.status.success() {
        let said = String::from_utf8_lossy(&again.stderr).trim().to_owned();
        return Err(CliError::failed(format!("the run that was killed could not be taken up: {said}")));
    }
    let (duplicates_after_kill, gaps_after_kill) = audit(project, &place)?;
    Ok(Measured {
        seconds,
        records_per_second: report.records as f64 / seconds,
        ids: report.tables.iter().filter_map(|table| table.ids).map(|ids| ids.count).sum(),
        sampled: None,
        hand_out_share: Some(reserving / report.total_seconds),
        conflicts: 0,
        duplicates,
        gaps,
        killed,
        gaps_after_kill,
        duplicates_after_kill,
    })
}

fn cannot_start(error: &std::io::Error) -> CliError {
    CliError::failed(format!("the program cannot start itself: {error}"))
}

fn command(args: &CompareArgs, scratch: &Path, fan_out: bool) -> Result<Command, CliError> {
    let program = std::env::current_exe().map_err(|error| cannot_start(&error))?;
    let mut command = Command::new(program);
    command.arg("run").arg(&args.pipeline.pipeline);
    for setting in &args.pipeline.set {
        command.args(["--set", setting]);
    }
    command.arg("--set").arg(format!("output.path={}", scratch.join("out").display()));
    command.arg("--set").arg(format!("state={}", scratch.join("state").display()));
    command.args(["--own-ids", "--json", "--quiet"]);
    match (fan_out, args.workers) {
        (false, _) => _ = command.arg("--no-fan-out"),
        (true, Some(workers)) => _ = command.args(["--workers", &workers.to_string()]),
        (true, None) => {}
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// How often it is tried to meet a run in its middle.
const TRIES: u32 = 5;

/// Starts a run and kills it when half of the time is over that it took before; if it was faster this time, another one
/// earlier. Whether one was killed, and where.
fn kill_in_the_middle(
    args: &CompareArgs,
    scratch: &Path,
    fan_out: bool,
    seconds: f64,
) -> Result<(bool, PathBuf), CliError> {
    let mut place = PathBuf::new();
    for attempt in 1..=TRIES {
        place = scratch.join(format!("killed-{attempt}"));
        let child = command(args, &place, fan_out)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.map_err(|error| cannot_start(&error))?;
        std::thread::sleep(Duration::from_secs_f64(seconds / f64::from(1 << attempt)));
        // It has ended already if this fails, which its status tells.
        let _ = child.kill();
        if !child.wait().map_err(|error| cannot_start(&error))?.success() {
            return Ok((true, place));
        }
    }
    Ok((false, place))
}

/// Duplicates and gaps, as `verify` finds them. It stops at a table's first, so they count at least one.
fn audit(project: &Project, scratch: &Path) -> Result<(u64, u64), CliError> {
    let mut pipeline: Pipeline = project.clone().with_own_ids().pipeline().clone();
    pipeline.output.path = scratch.join("out").display().to_string();
    pipeline.state = scratch.join("state").display().to_string();
    let report: VerifyReport = verify(&Project::new(pipeline, project.folder().to_owned()), 1)?;
    let failed = |guarantee: &str| report.checks.iter().filter(|c| c.guarantee == guarantee && !c.ok).count() as u64;
    let other = report.checks.iter().find(|check| !check.ok && !["G1", "G2"].contains(&check.guarantee.as_str()));
    match other {
        Some(check) => Err(CliError::failed(format!("the audit of a run found this: {}", check.message))),
        None => Ok((failed("G1"), failed("G2"))),
    }
}
