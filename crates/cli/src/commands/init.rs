//! `seriatim init`: a first pipeline file for some source files. Must never write over a file unless it is told to, and
//! never leave half of one.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use seriatim_ingest::{IngestError, SuggestOptions, SuggestedTable, Suggestion};
use seriatim_pipeline::Overrides;

use crate::args::InitArgs;
use crate::engine;
use crate::error::CliError;
use crate::ui::table::{Side, Table, printable};
use crate::ui::{Tone, Ui, human};

/// A file of this name says nothing of what is in it.
const USUAL: &str = "pipeline";

/// The document of `init --json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    pipeline: &'a Path,
    #[serde(flatten)]
    suggestion: &'a Suggestion,
}

/// Looks, writes, and says what was found.
pub(super) fn execute(args: &InitArgs, ui: &Ui) -> Result<(), CliError> {
    if !args.force && args.out.symlink_metadata().is_ok() {
        return Err(exists(&args.out));
    }
    let name = name(args)?;
    let here = std::env::current_dir().map_err(|e| CliError::io("find", Path::new("."), &e))?;
    let folder = folder(&here, &args.out)?;
    let files = if args.files.is_empty() { vec![".".to_owned()] } else { args.files.clone() };
    let options = SuggestOptions { files, here, folder, name, sample: args.sample, workers: engine::workers(None) };
    let suggestion = seriatim_ingest::suggest(&options)?;
    let shown = args.out.display().to_string();
    // What is written has to be a pipeline file, whatever the source's columns are called.
    seriatim_pipeline::parse(&suggestion.text, &shown, &Overrides::default(), &|_| None)
        .map_err(|errors| IngestError::internal(format!("what would be written is no pipeline file: {errors}")))?;
    write(args, &suggestion.text)?;
    if args.json {
        return ui.json(&Document { pipeline: &args.out, suggestion: &suggestion });
    }
    print(args, &suggestion, ui)
}

fn exists(path: &Path) -> CliError {
    CliError::CommandLine {
        message: format!("{} is there already, and was not touched", path.display()),
        help: "name another file with --out, or write over this one with --force".to_owned(),
    }
}

/// The pipeline's name, if the command line says one.
fn name(args: &InitArgs) -> Result<Option<String>, CliError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain) && name.len() <= 100
    };
    if let Some(name) = &args.name {
        if is_name(name) {
            return Ok(Some(name.clone()));
        }
        return Err(CliError::CommandLine {
            message: format!("'{name}' is no name for a pipeline"),
            help: "use up to 100 letters a to z and A to Z, digits, `_` and `-`, and begin with a letter or a digit"
                .to_owned(),
        });
    }
    let stem = args.out.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    Ok(stem.filter(|stem| stem != USUAL && is_name(stem)))
}

/// The folder that the file will be in.
fn folder(here: &Path, out: &Path) -> Result<PathBuf, CliError> {
    let folder = here.join(out).parent().map_or_else(|| here.to_owned(), Path::to_path_buf);
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(CliError::failed_with(
        format!("there is no folder {} for the pipeline file", folder.display()),
        "make it, or name another file with --out",
    ))
}

fn write(args: &InitArgs, text: &str) -> Result<(), CliError> {
    let path = &args.out;
    let refused = |e: std::io::Error| CliError::io("write", path, &e);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".seriatim-init-").tempfile_in(parent).map_err(refused)?;
    file.write_all(text.as_bytes()).map_err(refused)?;
    // Temporary files are for their owner alone; this one will be what any new file is.
    let usual = File::open(parent).and_then(|folder| folder.metadata()).map_err(refused)?.permissions();
    readable(file.as_file(), &usual).map_err(refused)?;
    let done = if args.force { file.persist(path) } else { file.persist_noclobber(path) };
    match done {
        Ok(_) => Ok(()),
        // It has come in the meantime.
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Err(exists(path)),
        Err(e) => Err(refused(e.error)),
    }
}

/// Gives a file the permissions to read and write that its folder has.
fn readable(file: &File, folder: &std::fs::Permissions) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(folder.mode() & 0o664 | 0o600))
}

fn print(args: &InitArgs, suggestion: &Suggestion, ui: &Ui) -> Result<(), CliError> {
    let path = args.out.display();
    let looked = if suggestion.looked_at == suggestion.records {
        human::counted(suggestion.records, "record")
    } else {
        format!("{} of {}", human::count(suggestion.looked_at), human::counted(suggestion.records, "record"))
    };
    let tables = human::counted(suggestion.tables.len() as u64, "table");
    let files = human::counted(suggestion.files, "file");
    ui.line(format!("{} {path}: {tables}, by {looked} in {files}", ui.toned(Tone::Good, "wrote")))?;
    for table in &suggestion.tables {
        ui.line(format!("\n{}", ui.toned(Tone::Strong, &table.name)))?;
        ui.lines(columns(suggestion, table).lines("  "))?;
        for why in &table.why {
            ui.lines(wrapped(why, "  "))?;
        }
        for beware in &table.beware {
            ui.lines(wrapped(&format!("Beware: {beware}"), "  "))?;
        }
    }
    if !suggestion.left_out.is_empty() {
        ui.line(format!("\n{}", ui.toned(Tone::Strong, "columns that no table has")))?;
        let mut table = Table::new(&[("column", Side::Left), ("why", Side::Left)]);
        for left in &suggestion.left_out {
            table.row([left.column.clone(), left.why.clone()]);
        }
        ui.lines(table.lines("  "))?;
    }
    ui.line(format!("\n{}", ui.toned(Tone::Strong, "next")))?;
    let mut next = Table::new(&[("", Side::Left), ("", Side::Left)]);
    for (command, what) in [
        (format!("seriatim check {path}"), "whether it fits the data: after each change of the file"),
        (format!("seriatim plan {path}"), "what a run would do; writes nothing"),
        (format!("seriatim run {path}"), "makes the tables; what they are is fixed from then on"),
    ] {
        next.row([command, format!("# {what}")]);
    }
    ui.lines(next.lines("  ").into_iter().skip(1))
}

/// The columns of a table, with what is known of those that come from the source.
fn columns(suggestion: &Suggestion, table: &SuggestedTable) -> Table {
    let mut columns = Table::new(&[
        ("column", Side::Left),
        ("type", Side::Left),
        ("role", Side::Left),
        ("values", Side::Right),
        ("nulls", Side::Right),
    ]);
    let made = |name: &str, role: String| [name.to_owned(), "Int64".to_owned(), role, String::new(), String::new()];
    columns.row(made(&table.id, "id".to_owned()));
    let source = |name: &String, role: &str| {
        let column = suggestion.columns.iter().find(|column| column.name == *name)?;
        let (values, nulls) = (human::count(column.distinct), human::count(column.nulls));
        Some([name.clone(), column.kind.clone(), role.to_owned(), values, nulls])
    };
    table.key.iter().filter_map(|name| source(name, "key")).for_each(|row| columns.row(row));
    let references = table.references.iter().filter_map(|name| suggestion.tables.iter().find(|t| t.name == *name));
    for other in references {
        columns.row(made(&other.id, format!("reference to {}", other.name)));
    }
    table.columns.iter().filter_map(|name| source(name, "column")).for_each(|row| columns.row(row));
    columns
}

/// A sentence in lines of at most 100 letters.
fn wrapped(text: &str, indent: &str) -> Vec<String> {
    const WIDTH: usize = 100;
    let mut lines = vec![indent.to_owned()];
    for word in printable(text).split(' ') {
        let last = lines.len() - 1;
        let is_first = lines[last].len() == indent.len();
        if !is_first && lines[last].chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("{indent}{word}"));
            continue;
        }
        if !is_first {
            lines[last].push(' ');
        }
        lines[last].push_str(word);
    }
    lines
}
