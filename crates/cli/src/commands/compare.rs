//! `seriatim compare`: the ways of handing out IDs on the user's own records. Must never make a way look better than it
//! was measured.

use crate::args::CompareArgs;
use crate::compare::{self, Comparison, Outcome};
use crate::error::CliError;
use crate::state;
use crate::ui::table::{Side, Table};
use crate::ui::{Ui, human};

/// Compares, and prints one table.
pub(super) fn execute(args: &CompareArgs, ui: &Ui) -> Result<(), CliError> {
    let project = state::project(&args.pipeline)?;
    let comparison = compare::compare(&project, args, ui)?;
    let lines = lines(&comparison);
    if let Some(chart) = &args.chart {
        compare::write_chart(&comparison, &lines, chart)?;
    }
    if args.json {
        return ui.json(&comparison);
    }
    ui.lines(lines)?;
    if let Some(chart) = &args.chart {
        ui.line(format!("\nchart in {}", chart.display()))?;
    }
    Ok(())
}

fn lines(comparison: &Comparison) -> Vec<String> {
    let mut table = Table::new(&[
        ("way", Side::Left),
        ("time", Side::Right),
        ("records/s", Side::Right),
        ("conflicts", Side::Right),
        ("duplicates", Side::Right),
        ("gaps", Side::Right),
        ("after a kill", Side::Left),
    ]);
    let mut notes = Vec::new();
    for way in &comparison.ways {
        let name = match (way.whole, way.hazard) {
            (true, _) => format!("{} *", way.name),
            (_, true) => format!("{} (do not do this)", way.name),
            _ => way.name.to_owned(),
        };
        let measured = match &way.outcome {
            Outcome::Measured(measured) => measured,
            Outcome::Skipped(why) => {
                let cell = String::new;
                table.row([name, "skipped".to_owned(), cell(), cell(), cell(), cell(), cell()]);
                notes.push(format!("{}: skipped, {why}", way.name));
                continue;
            }
        };
        let about = if measured.sampled.is_some() { "~" } else { "" };
        let after = match (measured.duplicates_after_kill, measured.gaps_after_kill) {
            _ if !measured.killed => "ended before it was killed".to_owned(),
            (0, 0) => "no gap".to_owned(),
            (0, gaps) => human::counted(gaps, "gap"),
            (duplicates, gaps) => {
                format!("{}, {}", human::counted(duplicates, "duplicate"), human::counted(gaps, "gap"))
            }
        };
        table.row([
            name,
            format!("{about}{}", human::seconds(measured.seconds)),
            format!("{about}{}", human::rate(comparison.records, measured.seconds)),
            human::count(measured.conflicts),
            human::count(measured.duplicates),
            human::count(measured.gaps),
            after,
        ]);
        if way.hazard {
            notes.push(format!(
                "{}: its storage answers after {} ms, as one elsewhere would",
                way.name,
                compare::ANSWER.as_millis()
            ));
        }
        if let Some(sampled) = measured.sampled {
            notes.push(format!("{}: computed from {}", way.name, human::counted(sampled, "ID")));
        }
        if let Some(share) = measured.hand_out_share {
            notes.push(format!("{}: {:.2} % of the run is waiting for IDs", way.name, share * 100.0));
        }
    }
    let records = human::counted(comparison.records, "record");
    let mut lines =
        vec![format!("{}: {records}, {} workers where a way is parallel", comparison.pipeline, comparison.workers)];
    lines.push(String::new());
    lines.extend(table.lines("  "));
    lines.push(String::new());
    lines.push(
        "  * the whole pipeline, every table written; the others only find the keys and hand out IDs, and write no table"
            .to_owned(),
    );
    lines.extend(notes.into_iter().map(|note| format!("    {note}")));
    lines
}
