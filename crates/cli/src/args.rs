//! The command line, as clap reads it: every command, option and help text. Must never do anything but describe.

mod hubs;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use seriatim_pipeline::parse_size;

pub(crate) use hubs::{AccessArgs, EntityItems, HubAccess, ServeArgs, WorkerArgs};

/// Split denormalised Parquet into tables with gap-free sequential IDs, in parallel, exactly once.
#[derive(Debug, Parser)]
#[command(name = "seriatim", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Options that every command has.
    #[command(flatten)]
    pub(crate) global: Global,
}

const AFTER_HELP: &str = "\
Begin with `seriatim demo`: it makes two million records, ingests them and says what to try next.
`seriatim init` writes a first pipeline file for Parquet files of your own.

Exit codes: 0 done, 1 failed, 2 the command line or the pipeline is wrong, 130 interrupted (run again to resume).";

/// Options that every command has.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// What to log to stderr: error, warn, info, debug, trace, or a filter such as `seriatim_hub=debug`
    #[arg(long, global = true, value_name = "LEVEL", env = "SERIATIM_LOG", hide_env_values = true)]
    pub(crate) log: Option<String>,
    /// When to use colours; `NO_COLOR` is respected
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = When::Auto)]
    pub(crate) color: When,
    /// No progress and no remarks on stderr, only errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make two million retail records, ingest them, verify and show the result
    Demo(DemoArgs),
    /// Write a first pipeline file for some Parquet files, with the reasons for what is in it
    Init(InitArgs),
    /// Check a pipeline file, and that it fits the source files
    Check(CheckArgs),
    /// Say what a run would do: files, records, new keys, exact ID ranges. Writes nothing
    Plan(PlanArgs),
    /// Ingest what is new; takes up an interrupted run by itself
    Run(RunArgs),
    /// Show which records wait in quarantine, and why
    Quarantine(QuarantineArgs),
    /// Ingest what waits in quarantine once more: after a change of the pipeline, or with records that were mended
    Replay(ReplayArgs),
    /// Bring a state folder that is lost, or older than the output, up to what is published there
    Recover(RecoverArgs),
    /// List the runs
    Runs(RunsArgs),
    /// Show one run
    Show(OneRunArgs),
    /// Cancel a run that is not done: nothing of it is published, and no ID is lost
    Cancel(CancelArgs),
    /// Audit the outputs: unique, dense, stable IDs, nothing lost, every reference meets its row
    Verify(VerifyArgs),
    /// Say where rows come from: the run, the source file and the record of an ID
    Who(WhoArgs),
    /// List which IDs the records of which files were given
    Ledger(LedgerArgs),
    /// Time the ways of handing out IDs on your own data, and look for duplicates and gaps, also after a kill
    Compare(CompareArgs),
    /// Work for a task hub elsewhere: `seriatim serve`, or Azure Durable Task Scheduler
    Worker(WorkerArgs),
    /// Serve task hubs on gRPC, to the official Durable Task SDKs among others
    Serve(ServeArgs),
    /// Print the JSON Schema of the pipeline file
    Schema,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// A pipeline file, and settings that take the place of its own.
#[derive(Debug, Args)]
pub(crate) struct PipelineArgs {
    /// The pipeline file
    #[arg(value_name = "PIPELINE")]
    pub(crate) pipeline: PathBuf,
    /// Put a setting in the place of the file's, such as `output.path=elsewhere`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// `seriatim quarantine`
#[derive(Debug, Args)]
pub(crate) struct QuarantineArgs {
    /// Whose quarantine.
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Who is told of a run.
#[derive(Debug, Clone, Args)]
pub(crate) struct LineageArgs {
    /// Tell of the run as OpenLineage events, to a file or to a service; without it to the service that `OPENLINEAGE_URL`
    /// names, if it is set
    #[arg(long, value_name = "FILE|URL")]
    pub(crate) lineage: Option<String>,
}

/// `seriatim replay`
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Whose quarantine.
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Parquet files of mended records: each takes the place of the one with the same `_file` and `_row`; a path, a folder
    /// or a glob, which starts at the pipeline file's folder; may be repeated
    #[arg(long, value_name = "FILES")]
    pub(crate) mended: Vec<String>,
    /// How much of the machine to use.
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Who is told of the run.
    #[command(flatten)]
    pub(crate) lineage: LineageArgs,
    /// If another process has the state folder, fail instead of waiting for it
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// How much of the machine a run may use.
#[derive(Debug, Clone, Args)]
pub(crate) struct MachineArgs {
    /// Steps that run at once [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,
    /// Memory for scans and mappings, such as 512MiB or 2GB [default: half of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: Option<u64>,
    /// Records in a chunk, at most
    #[arg(long, value_name = "N", hide = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) chunk_rows: Option<u32>,
    /// Hash shards per table
    #[arg(long, value_name = "N", hide = true, value_parser = parse_shards)]
    pub(crate) shards: Option<u32>,
    /// How columns are read and written: as pages where that is worth it, always as Arrow arrays, or as pages wherever
    /// that can be
    #[arg(long, value_enum, hide = true, default_value_t = Paths::Auto)]
    pub(crate) paths: Paths,
    /// Where the journal goes; `off` is for measuring what the journal costs: such a run cannot be resumed
    #[arg(long, value_enum, hide = true, default_value_t = Journal::Disk)]
    pub(crate) journal: Journal,
}

/// Where the journal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Journal {
    /// To the state folder.
    Disk,
    /// Nowhere.
    Off,
}

/// How columns are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Paths {
    /// As the program thinks best.
    Auto,
    /// As Arrow arrays.
    General,
    /// As pages.
    Pages,
}

fn parse_shards(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(shards) if shards.is_power_of_two() && shards <= 4_096 => Ok(shards),
        _ => Err("it must be a power of two from 1 to 4096".to_owned()),
    }
}

/// `seriatim demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Records to make
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) rows: u64,
    /// Files to spread them over, one per month
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) files: u32,
    /// The seed of the records; the same seed makes the same bytes
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where to put everything; it is made if it is missing
    #[arg(long, value_name = "DIR", default_value = "seriatim-demo")]
    pub(crate) folder: PathBuf,
    /// Only make the records and the pipeline file; run nothing
    #[arg(long)]
    pub(crate) data_only: bool,
    /// How much of the machine to use.
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// `seriatim init`
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Parquet, CSV or NDJSON files, folders, globs or addresses in object storage [default: the current folder]
    #[arg(value_name = "FILES")]
    pub(crate) files: Vec<String>,
    /// The pipeline's name [default: by the file that is written, or by the names of the sources]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "pipeline.yaml")]
    pub(crate) out: PathBuf,
    /// Records to look at, spread over the files
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=20_000_000))]
    pub(crate) sample: u64,
    /// Write over a file that is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// `seriatim check`
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// What to check.
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// `seriatim plan`
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// What to plan.
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// How much of the machine to use.
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// `seriatim run`
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct RunArgs {
    /// What to run.
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// How much of the machine to use.
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Do one step after another, without parallel work between steps: the plain pipeline, with the same result
    #[arg(long)]
    pub(crate) no_fan_out: bool,
    /// IDs from the pipeline's own counters, whatever it says: `compare` runs in folders of its own
    #[arg(long, hide = true)]
    pub(crate) own_ids: bool,
    /// If another process has the state folder, fail instead of waiting for it
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// If more is published than the state folder knows of, recover it from the output first
    #[arg(long)]
    pub(crate) recover: bool,
    /// Let the workers of a task hub elsewhere carry out the run: `http://HOST:PORT`, `https://HOST:PORT`, or a
    /// connection string
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["recover", "no_wait", "workers", "memory", "journal"])]
    pub(crate) hub: Option<String>,
    /// How to reach that hub.
    #[command(flatten)]
    pub(crate) access: HubAccess,
    /// Where the workers leave what the others need of the run: a path or a URL that all of them reach [default:
    /// `_seriatim/work` in the output]
    #[arg(long, value_name = "LOCATION", requires = "hub")]
    pub(crate) work: Option<String>,
    /// Who is told of the run.
    #[command(flatten)]
    pub(crate) lineage: LineageArgs,
    /// Return as soon as the run has begun; run again to wait for it
    #[arg(long, requires = "hub")]
    pub(crate) detach: bool,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// `seriatim recover`
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// What to recover.
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// How much of the machine to use.
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// If another process has the state folder, fail instead of waiting for it
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which state folder to look into.
#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    /// The pipeline whose state folder to look into
    #[arg(long, value_name = "PIPELINE", conflicts_with = "state")]
    pub(crate) pipeline: Option<PathBuf>,
    /// The state folder to look into [default: .seriatim]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

/// `seriatim runs`
#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// Where to look.
    #[command(flatten)]
    pub(crate) state: StateArgs,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// `seriatim show`
#[derive(Debug, Args)]
pub(crate) struct OneRunArgs {
    /// The run, as `seriatim runs` names it
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// Where to look.
    #[command(flatten)]
    pub(crate) state: StateArgs,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// `seriatim cancel`
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// Which run.
    #[command(flatten)]
    pub(crate) run: OneRunArgs,
    /// The task hub elsewhere that has the run, if one has
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) hub: Option<String>,
    /// How to reach that hub.
    #[command(flatten)]
    pub(crate) access: HubAccess,
}

/// What `who` takes.
#[derive(Debug, Args)]
pub(crate) struct WhoArgs {
    /// The pipeline.
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// The table
    #[arg(value_name = "TABLE")]
    pub(crate) table: String,
    /// The IDs
    #[arg(value_name = "ID", required = true, allow_negative_numbers = true)]
    pub(crate) ids: Vec<i64>,
    /// Print a JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `ledger` takes.
#[derive(Debug, Args)]
pub(crate) struct LedgerArgs {
    /// The pipeline.
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Only this run, by its number among the published ones
    #[arg(long, value_name = "NUMBER")]
    pub(crate) run: Option<u64>,
    /// Only this table
    #[arg(long, value_name = "NAME")]
    pub(crate) table: Option<String>,
    /// Print a JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `seriatim verify`
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Whose outputs to audit.
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Files that are read at once [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// `seriatim compare`
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Whose records to number; its own output and state are not touched.
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Services to start for the ways that need one, if they are installed
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SERVICE")]
    pub(crate) with: Vec<Service>,
    /// Workers of the parallel ways [default: one per core, at least 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: Option<u16>,
    /// IDs that are asked for one by one where a way asks for each record; the time of all is computed from these
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) sample: u64,
    /// Draw the times into this file: SVG, or HTML with the table
    #[arg(long, value_name = "FILE")]
    pub(crate) chart: Option<PathBuf>,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Services that `compare` can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    /// The emulator of Azure Storage, for e-tags on Table Storage.
    Azurite,
    /// A PostgreSQL server, for its sequences.
    Postgres,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{Cli, parse_shards};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn shards_are_powers_of_two() {
        assert_eq!(parse_shards("16"), Ok(16));
        for wrong in ["0", "3", "8192", "-1", "many"] {
            assert!(parse_shards(wrong).is_err(), "{wrong}");
        }
    }
}
