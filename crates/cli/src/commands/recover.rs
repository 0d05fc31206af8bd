//! `seriatim recover`: brings a state folder that is empty, or older than the output, up to what is published. Must
//! never take anything back.

use seriatim_ingest::RecoverReport;

use crate::args::RecoverArgs;
use crate::engine::{self, Options};
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::state;
use crate::ui::table::{Side, Table};
use crate::ui::{Tone, Ui, human};

/// Recovers, and prints where the tables go on.
pub(super) fn execute(args: &RecoverArgs, ui: &Ui) -> Result<(), CliError> {
    let project = state::project(&args.pipeline)?;
    let options = Options::new(&args.machine, !args.no_wait);
    let runtime = engine::runtime()?;
    let report = runtime.block_on(async {
        let interrupt = Interrupt::listen()?;
        engine::recover(&project, &options, ui, &interrupt).await
    })?;
    if args.json {
        return ui.json(&report);
    }
    ui.line(said(&report, ui))?;
    if report.is_recovered() {
        ui.line("")?;
        ui.lines(tables(&report).lines("  "))?;
        ui.line("\n`seriatim run` goes on from here")?;
    }
    Ok(())
}

/// What recovering came to, in a line.
pub(crate) fn said(report: &RecoverReport, ui: &Ui) -> String {
    let (pipeline, output) = (&report.pipeline, &report.output);
    let runs = |n: u64| human::counted(n, "run");
    if report.published == 0 {
        format!("{pipeline}: nothing is published in {output}, so there is nothing to recover")
    } else if report.is_recovered() {
        let word = ui.toned(Tone::Good, "recovered");
        format!("{pipeline} {word} from {output}: {}; the state folder knew {}", runs(report.published), report.known)
    } else if report.known == report.published {
        format!("{pipeline}: the state folder knows all {} of {output}; it is left as it is", runs(report.published))
    } else {
        format!(
            "{pipeline}: the state folder knows {}, {output} has {}; what is newer is left as it is",
            runs(report.known),
            report.published
        )
    }
}

fn tables(report: &RecoverReport) -> Table {
    let mut tables = Table::new(&[("table", Side::Left), ("rows", Side::Right), ("key maps", Side::Right)]);
    for table in &report.tables {
        tables.row([table.table.clone(), human::count(table.rows), human::count(table.key_maps as u64)]);
    }
    tables
}
