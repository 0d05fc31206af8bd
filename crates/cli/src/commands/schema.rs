//! `seriatim schema`: the JSON Schema of the pipeline file, for editors. Must never differ from what `run` accepts, so
//! it comes from the crate that reads the file.

use crate::error::CliError;
use crate::ui::Ui;

/// Prints it.
pub(super) fn execute(ui: &Ui) -> Result<(), CliError> {
    ui.json(&seriatim_pipeline::json_schema())
}
