//! Which patterns the pipeline has for the files that were named: paths that start at the pipeline file's folder, and
//! globs where a shell has put every file in the place of one, so that files that come later are found as well. Must
//! never make a pattern that reaches into the pipeline's own output.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use seriatim_pipeline::model::{Source, SourceFormat};
use seriatim_storage::Location;

use super::SuggestOptions;
use crate::error::{IngestError, Result};
use crate::text::{endings, form_of};

/// What to name if there is nothing.
pub(super) const HELP: &str = "name Parquet, CSV or NDJSON files, a folder with some in it, or a glob in quotes";

/// The formats that are looked for in a folder, the first one that it has being the one that is meant.
const FORMATS: [SourceFormat; 3] = [SourceFormat::Parquet, SourceFormat::Csv, SourceFormat::Ndjson];

/// The source: at least one pattern, and the format of the folders among them.
pub(super) fn source(options: &SuggestOptions) -> Result<Source> {
    let mut patterns: Vec<String> = Vec::new();
    // With a folder of each.
    let mut formats: Vec<(SourceFormat, String)> = Vec::new();
    for given in as_globs(&options.files, &options.here) {
        let found = if Location::is_url(&given) {
            Location::check(&given)?;
            vec![given]
        } else {
            let (found, format) = local(&given, options)?;
            if let Some(format) = format.filter(|format| formats.iter().all(|(known, _)| known != format)) {
                formats.push((format, given));
            }
            found
        };
        for pattern in found {
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
    }
    if patterns.is_empty() {
        let here = options.here.display();
        return Err(IngestError::input(format!("there is no Parquet, CSV or NDJSON file below {here}")).help(HELP));
    }
    let other_format = |one: &str, folder: &str| {
        IngestError::input(format!("{one} has another format than the files in {folder}"))
            .help("name their files by globs in quotes, or write a pipeline for each of them")
    };
    if let [(_, first), (_, other), ..] = formats.as_slice() {
        return Err(other_format(other, first));
    }
    // A folder stands for Parquet files unless the pipeline says what else.
    let mut format = None;
    if let Some((found, first)) = formats.first().filter(|(found, _)| *found != SourceFormat::Parquet) {
        format = Some(*found);
        let is_other = |pattern: &&String| {
            form_of(pattern, None) != form_of(pattern, format) && !options.folder.join(pattern).is_dir()
        };
        if let Some(other) = patterns.iter().find(is_other) {
            return Err(other_format(other, first));
        }
    }
    Ok(Source { files: patterns, format, ..Source::default() })
}

/// The output folder: one that is not there yet, unless it is one of Seriatim's.
pub(super) fn output(folder: &Path) -> String {
    let is_free = |name: &str| {
        let path = folder.join(name);
        let is_empty = || fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
        !path.exists() || is_ours(&path) || is_empty()
    };
    let more = (2..).map(|n: u32| format!("out-{n}"));
    let mut choices = ["out".to_owned(), "tables".to_owned()].into_iter().chain(more);
    choices.find(|name| is_free(name)).unwrap_or_else(|| "out".to_owned())
}

fn is_ours(folder: &Path) -> bool {
    folder.join("_seriatim").is_dir()
}

/// The patterns for a file, a folder or a glob; and the format of what is in it, if it is a folder that a pattern stands
/// for.
fn local(given: &str, options: &SuggestOptions) -> Result<(Vec<String>, Option<SourceFormat>)> {
    let path = options.here.join(given);
    let is_glob = given.contains(['*', '?', '[']);
    if !path.exists() && !is_glob {
        return Err(IngestError::input(format!("there is no file and no folder {}", path.display())).help(HELP));
    }
    let (path, folder) = (normal(&path), normal(&options.folder));
    if path.is_dir() && folder.starts_with(&path) {
        // The output will lie below this folder, too.
        for format in FORMATS {
            let mut parts = BTreeSet::new();
            without_output(&path, &folder, endings(Some(format)), &mut parts)?;
            if !parts.is_empty() {
                let has_folders = parts.iter().any(|part| part.is_dir());
                let patterns = parts.into_iter().map(|part| written(&part, &folder)).collect::<Result<_>>()?;
                return Ok((patterns, has_folders.then_some(format)));
            }
        }
        return Ok((Vec::new(), None));
    }
    let has = |format: &SourceFormat| path.is_dir() && has_files(&path, endings(Some(*format)));
    let format = FORMATS.into_iter().find(has);
    let pattern = if Path::new(given).is_absolute() { given.to_owned() } else { written(&path, &folder)? };
    Ok((vec![pattern], format))
}

/// What there is below a folder in which, or below which, the pipeline file will be, of files with these endings: its own
/// as globs, and each of its folders that has some, but for those that Seriatim writes.
fn without_output(path: &Path, pipeline: &Path, endings: &[&str], parts: &mut BTreeSet<PathBuf>) -> Result<()> {
    let refused = |e: &std::io::Error| IngestError::io("list", path, e);
    for entry in fs::read_dir(path).map_err(|e| refused(&e))? {
        let entry = entry.map_err(|e| refused(&e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let inner = entry.path();
        if name.starts_with(['_', '.']) {
            continue;
        }
        if !inner.is_dir() {
            parts.extend(ending_of(&name, endings).map(|ending| path.join(format!("*.{ending}"))));
        } else if pipeline.starts_with(&inner) {
            without_output(&inner, pipeline, endings, parts)?;
        } else if !is_ours(&inner) && has_files(&inner, endings) {
            parts.insert(inner);
        }
    }
    Ok(())
}

fn has_files(folder: &Path, endings: &[&str]) -> bool {
    endings.iter().any(|ending| {
        let pattern = format!("{}/**/*.{ending}", glob::Pattern::escape(&folder.to_string_lossy()));
        glob::glob(&pattern).is_ok_and(|mut found| found.any(|path| path.is_ok()))
    })
}

/// Which of these endings a name has.
fn ending_of<'e>(name: &str, endings: &[&'e str]) -> Option<&'e str> {
    let has = |ending: &&&str| name.strip_suffix(**ending).is_some_and(|stem| stem.ends_with('.'));
    endings.iter().find(has).copied()
}

/// A path as the pipeline has it: relative to its folder.
fn written(path: &Path, folder: &Path) -> Result<String> {
    let same = path.components().zip(folder.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(same).map(|_| Component::ParentDir);
    let relative: PathBuf = up.chain(path.components().skip(same)).collect();
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { &relative };
    let text = relative.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        IngestError::input(format!("the name of {} is not UTF-8", path.display())).help("rename the file or the folder")
    })
}

/// The path without `.` and `..`, as far as names alone tell.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

/// The files as one glob if they are all that the glob finds; otherwise as they are.
fn as_globs(files: &[String], here: &Path) -> Vec<String> {
    as_one_glob(files, here).map_or_else(|| files.to_vec(), |glob| vec![glob])
}

fn as_one_glob(files: &[String], here: &Path) -> Option<String> {
    let (first, others) = files.split_first()?;
    let is_plain =
        |file: &String| !file.contains(['*', '?', '[', ']']) && !Location::is_url(file) && here.join(file).is_file();
    if others.is_empty() || !files.iter().all(is_plain) {
        return None;
    }
    let split = |file: &'_ String| {
        file.rsplit_once('/').map_or((String::new(), file.clone()), |(a, b)| (format!("{a}/"), b.to_owned()))
    };
    let (folder, name) = split(first);
    let names: Vec<String> =
        files.iter().map(split).filter(|(other, _)| *other == folder).map(|(_, name)| name).collect();
    if names.len() < files.len() {
        return None;
    }
    let common = names.iter().fold(name.as_str(), |common, other| {
        let same =
            common.chars().zip(other.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum::<usize>();
        &common[..same]
    });
    // What the files have in common of a date or a number is no part of the pattern: `2026-0` would end with October.
    let word = common.trim_end_matches(|c: char| !c.is_alphabetic());
    let joint = common[word.len()..].chars().take_while(|c| !c.is_alphanumeric()).next();
    let begin: String = if word.is_empty() { String::new() } else { word.chars().chain(joint).collect() };
    let ending = FORMATS.into_iter().find_map(|format| ending_of(&name, endings(Some(format))))?;
    let pattern = format!("{folder}{begin}*.{ending}");
    let wanted: BTreeSet<PathBuf> = files.iter().map(|file| normal(&here.join(file))).collect();
    let absolute = format!("{}/{pattern}", glob::Pattern::escape(&here.to_string_lossy()));
    let absolute = if pattern.starts_with('/') { pattern.clone() } else { absolute };
    let found: BTreeSet<PathBuf> =
        glob::glob(&absolute).ok()?.filter_map(std::result::Result::ok).map(|path| normal(&path)).collect();
    (found == wanted).then_some(pattern)
}
