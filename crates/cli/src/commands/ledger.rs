//! `seriatim ledger`: which IDs the records of which files were given. Must never need the hub, nor write anything.

use seriatim_ingest::{LedgerEntry, LedgerReport};

use crate::args::LedgerArgs;
use crate::error::CliError;
use crate::state;
use crate::ui::table::{Side, Table};
use crate::ui::{Ui, human};

/// Prints the ledger.
pub(super) fn execute(args: &LedgerArgs, ui: &Ui) -> Result<(), CliError> {
    let project = state::project(&args.pipeline)?;
    let report = seriatim_ingest::ledger(&project, args.run, args.table.as_deref())?;
    if args.json {
        return ui.json(&report);
    }
    for run in &report.missing {
        ui.remark(format!("the ledger of run {run} is neither in the state folder nor beside the output"));
    }
    ui.lines(table(&report).lines(""))
}

fn table(report: &LedgerReport) -> Table {
    let names = report.entries.first().map(|entry| entry.tables.iter().map(|t| t.table.as_str())).into_iter().flatten();
    let mut columns = vec![("run", Side::Right), ("file", Side::Left), ("rows", Side::Right)];
    columns.extend(names.map(|name| (name, Side::Left)));
    let mut table = Table::new(&columns);
    for entry in &report.entries {
        table.row(row(entry));
    }
    table
}

fn row(entry: &LedgerEntry) -> Vec<String> {
    let last = entry.first_row + entry.rows.saturating_sub(1);
    let mut row = vec![entry.run.to_string(), entry.file.clone(), format!("{}..{last}", entry.first_row)];
    row.extend(entry.tables.iter().map(|table| human::ids(table.ids.as_ref())));
    row
}
