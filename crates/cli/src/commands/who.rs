//! `seriatim who TABLE ID`: where rows come from. Must never need the hub, nor write anything.

use serde::Serialize;
use seriatim_ingest::WhoReport;

use crate::args::WhoArgs;
use crate::error::CliError;
use crate::state;
use crate::ui::table::printable;
use crate::ui::{Ui, human};

/// The document of `who --json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    rows: &'a [WhoReport],
}

/// Looks each ID up, and prints where its row comes from.
pub(super) fn execute(args: &WhoArgs, ui: &Ui) -> Result<(), CliError> {
    let project = state::project(&args.pipeline)?;
    let find = |id: &i64| seriatim_ingest::who(&project, &args.table, *id);
    let rows: Vec<WhoReport> = args.ids.iter().map(find).collect::<Result<_, _>>()?;
    if args.json {
        return ui.json(&Document { rows: &rows });
    }
    for (nth, row) in rows.iter().enumerate() {
        if nth > 0 {
            ui.line("")?;
        }
        print(row, &project.pipeline().output.path, ui)?;
    }
    Ok(())
}

fn print(row: &WhoReport, output: &str, ui: &Ui) -> Result<(), CliError> {
    let field = |name: &str, value: String| ui.line(format!("{name:<8} {value}"));
    field("row", format!("{} {}", row.table, row.id))?;
    let begun = row.started.as_ref().map(|at| format!(", begun {}", human::moment(at))).unwrap_or_default();
    let name = row.run_name.as_ref().map(|name| format!(" ({name}{begun})")).unwrap_or_default();
    field("run", format!("{}{name}", row.run))?;
    if let Some(file) = &row.source_file {
        let place = match (row.source_row, row.source_rows) {
            (Some(at), _) => match &row.source_element {
                Some(element) => format!("row {at}, {}", printable(element)),
                None => format!("row {at}"),
            },
            (None, Some((first, count))) => format!("one of the rows {first} to {}", first + count.saturating_sub(1)),
            (None, None) => "no row known".to_owned(),
        };
        field("source", format!("{}, {place}", printable(file)))?;
    }
    field("output", format!("{}/{}, row {}", output.trim_end_matches('/'), row.output_file, row.output_row))?;
    if let Some(remark) = &row.remark {
        field("remark", printable(remark))?;
    }
    let values = [("the row", &row.values), ("the record, as the source has it", &row.source_values)];
    for (title, values) in values.into_iter().filter(|(_, values)| !values.is_empty()) {
        ui.line("")?;
        ui.line(title)?;
        let width = values.iter().map(|(name, _)| printable(name).chars().count()).max().unwrap_or_default();
        ui.lines(values.iter().map(|(name, value)| {
            let name = printable(name);
            let padding = " ".repeat(width - name.chars().count());
            format!("  {name}{padding}  {}", value.as_deref().map_or_else(|| "null".to_owned(), printable))
        }))?;
    }
    Ok(())
}
