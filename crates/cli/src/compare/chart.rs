//! A bar for each way, as SVG, or with the table around it as HTML. The lengths are logarithmic, because the slowest way
//! takes thousands of times as long as the fastest. Must never load anything from elsewhere.

use std::fmt::Write as _;
use std::path::Path;

use super::{Comparison, Outcome};
use crate::error::CliError;
use crate::ui::human;

const LEFT: u32 = 270;
const WIDTH: u32 = 760;
const LINE: u32 = 34;

/// Writes the chart into `path`, by its ending.
pub(crate) fn write(comparison: &Comparison, table: &[String], path: &Path) -> Result<(), CliError> {
    let text = match path.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => svg(comparison),
        Some("html" | "htm") => html(comparison, table),
        _ => {
            return Err(CliError::CommandLine {
                message: format!("--chart {}: of what kind is it?", path.display()),
                help: "let the name end in .svg or .html".to_owned(),
            });
        }
    };
    std::fs::write(path, text).map_err(|error| CliError::io("write", path, &error))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn svg(comparison: &Comparison) -> String {
    let seconds = |outcome: &Outcome| match outcome {
        Outcome::Measured(measured) => Some(measured.seconds.max(1e-6)),
        Outcome::Skipped(_) => None,
    };
    let all: Vec<f64> = comparison.ways.iter().filter_map(|way| seconds(&way.outcome)).collect();
    let (least, most) = all.iter().fold((f64::MAX, f64::MIN), |(a, b), &s| (a.min(s), b.max(s)));
    let height = 60 + LINE * comparison.ways.len() as u32;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"24\" font-size=\"15\">{}: seconds for {} records, logarithmic</text>\n",
        escaped(&comparison.pipeline),
        human::count(comparison.records)
    );
    for (index, way) in comparison.ways.iter().enumerate() {
        let y = 44 + LINE * index as u32;
        // A String takes everything.
        let _ = writeln!(svg, "<text x=\"10\" y=\"{}\">{}</text>", y + 16, escaped(way.name));
        let (label, share, colour) = match &way.outcome {
            Outcome::Skipped(_) => ("skipped".to_owned(), 0.0, "#999"),
            Outcome::Measured(measured) => {
                let s = measured.seconds.max(1e-6);
                let share = (s / least).ln() / (most / least).max(1.01).ln();
                let wrong = measured.duplicates + measured.duplicates_after_kill;
                let gaps = measured.gaps + measured.gaps_after_kill;
                let colour = if wrong > 0 {
                    "#b3261e"
                } else if gaps > 0 {
                    "#c77700"
                } else {
                    "#2e7d32"
                };
                let told = match (wrong, gaps) {
                    (0, 0) => "",
                    (0, _) => ", gaps",
                    _ => ", duplicates",
                };
                let about = if measured.sampled.is_some() { "about " } else { "" };
                (format!("{about}{}{told}", human::seconds(measured.seconds)), 0.03 + 0.97 * share, colour)
            }
        };
        let width = (f64::from(WIDTH - LEFT - 190) * share).round();
        let _ = writeln!(svg, "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width}\" height=\"22\" fill=\"{colour}\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\">{label}</text>", f64::from(LEFT) + width + 8.0, y + 16);
    }
    svg.push_str("</svg>\n");
    svg
}

fn html(comparison: &Comparison, table: &[String]) -> String {
    let title = escaped(&format!("{}: the ways of handing out IDs", comparison.pipeline));
    let table = escaped(&table.join("\n"));
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n<body>\n<h1>{title}</h1>\n\
         {}<pre>{table}</pre>\n</body></html>\n",
        svg(comparison)
    )
}
