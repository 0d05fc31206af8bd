//! Which files the pipeline's patterns mean, local ones and objects, in the order that IDs follow. Must never open one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use seriatim_pipeline::model::SourceFormat;
use seriatim_storage::Location;

use super::SourceFile;
use super::braces::{alternatives, has_braces};
use super::footer::{content_hash, stamp};
use super::object::Object;
use crate::error::{IngestError, Result};
use crate::text::endings;

/// Where a file is.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Local(PathBuf),
    Object(Object),
}

impl Found {
    /// Whether it is an object of a storage service.
    pub(crate) fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }

    /// What is known of a text file before it is read. With `hash`, a local file is read once for that.
    pub(crate) fn as_text(&self, name: &str, hash: bool) -> Result<SourceFile> {
        let (bytes, modified, hash) = match self {
            Self::Local(path) => {
                let (bytes, modified) = stamp(path)?;
                (bytes, modified, if hash { content_hash(path)? } else { String::new() })
            }
            Self::Object(object) => (object.bytes, 0, object.version.0.clone()),
        };
        Ok(SourceFile { name: name.to_owned(), bytes, modified, hash, rows: 0, bad: None })
    }
}

/// A listing: names and where the files are, in the order of names by their bytes; and the patterns that matched
/// nothing.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) files: BTreeMap<String, Found>,
    pub(crate) unmatched: Vec<String>,
}

/// What is looked for, and where the pipeline says so.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    endings: &'a [&'a str],
    setting: &'a str,
}

/// Lists the files of `patterns`: a file, a folder (the files of this format in it by their names, at any depth; without
/// one `*.parquet`), or a glob, as a path or as a URL. Files and folders whose name starts with `_` or `.` are left out
/// where a folder or a glob would find them, as Hive and Spark do. `setting` is where the pipeline has them, for messages.
pub(crate) fn list(folder: &Path, patterns: &[String], format: Option<SourceFormat>, setting: &str) -> Result<Listing> {
    let mut listing = Listing::default();
    let wanted = Wanted { endings: endings(format), setting };
    for pattern in patterns {
        let before = listing.files.len();
        if Location::is_url(pattern) && !pattern.starts_with("file://") {
            add_objects(&mut listing, pattern, wanted)?;
            if listing.files.len() == before {
                listing.unmatched.push(pattern.clone());
            }
            continue;
        }
        let local = Location::parse(pattern, folder)?;
        let pattern = &local
            .as_local()
            .filter(|_| Location::is_url(pattern))
            .map_or_else(|| pattern.clone(), |path| path.to_string_lossy().into_owned());
        let path = folder.join(pattern);
        if path.is_dir() {
            for ending in wanted.endings {
                let glob_text = format!("{}/**/*.{ending}", pattern.trim_end_matches('/'));
                add_matches(&mut listing, folder, pattern, &glob_text, setting)?;
            }
        } else if is_glob(pattern) && !path.exists() {
            for one in expanded(pattern, setting)? {
                add_matches(&mut listing, folder, pattern, &one, setting)?;
            }
        } else if path.exists() {
            listing.files.insert(name_of(folder, &path)?, Found::Local(path));
            continue;
        } else {
            return Err(IngestError::input(format!("there is no file {}", path.display()))
                .help(format!("correct `{setting}` ('{pattern}'), or bring the file")));
        }
        if listing.files.len() == before {
            listing.unmatched.push(pattern.clone());
        }
    }
    refuse_twice(&listing, setting)?;
    Ok(listing)
}

/// Two names for one file (a link, a `..`) would ingest its records twice.
fn refuse_twice(listing: &Listing, setting: &str) -> Result<()> {
    let mut seen: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for (name, found) in &listing.files {
        let real = match found {
            Found::Local(path) => path.canonicalize().map_err(|e| IngestError::io("find", path, &e))?,
            Found::Object(object) => PathBuf::from(object.place.identity()),
        };
        if let Some(first) = seen.insert(real, name) {
            return Err(IngestError::input(format!("{first} and {name} are the same file"))
                .help(format!("name it once in `{setting}`: its records would be read twice")));
        }
    }
    Ok(())
}

fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[']) || has_braces(pattern)
}

/// The globs that a pattern with braces stands for.
fn expanded(pattern: &str, setting: &str) -> Result<Vec<String>> {
    alternatives(pattern).ok_or_else(|| {
        IngestError::pipeline(format!("'{pattern}' in `{setting}` stands for too many patterns"))
            .help("name a folder, or write `*` where names differ")
    })
}

fn add_matches(listing: &mut Listing, folder: &Path, pattern: &str, glob_text: &str, setting: &str) -> Result<()> {
    let full = if Path::new(glob_text).is_absolute() {
        glob_text.to_owned()
    } else {
        // Only the pattern is a glob; the folder it starts at may well be called `data[2026]`.
        format!("{}/{glob_text}", glob::Pattern::escape(&folder.to_string_lossy()))
    };
    let paths = glob::glob(&full).map_err(|e| not_a_glob(pattern, setting, &e))?;
    for path in paths {
        let path = path.map_err(|e| IngestError::io("list", e.path(), e.error()))?;
        let name = name_of(folder, &path)?;
        if path.is_file() && !is_hidden(&name, glob_text) {
            listing.files.insert(name, Found::Local(path));
        }
    }
    Ok(())
}

fn not_a_glob(pattern: &str, setting: &str, error: &glob::PatternError) -> IngestError {
    IngestError::pipeline(format!("'{pattern}' in `{setting}` is not a glob: {error}"))
        .help("`*` stands for any name, `**` for any folders, `[a-c]` for one of these characters, `{a,b}` for one of these texts")
}

/// The same for objects: one object, a prefix that ends where a `/` follows, or a glob.
fn add_objects(listing: &mut Listing, pattern: &str, wanted: Wanted<'_>) -> Result<()> {
    let location = Location::parse(pattern, Path::new(""))?;
    let Some((container, path)) = location.in_container() else {
        return Err(IngestError::internal(format!("'{pattern}' is no place in object storage")));
    };
    let is_glob = is_glob(path);
    let one = if is_glob || path.is_empty() { None } else { container.head(path)? };
    let found = if let Some(entry) = one { vec![entry] } else { matching(&container, pattern, path, wanted)? };
    if found.is_empty() && !is_glob {
        return Err(IngestError::input(format!(
            "there is no object {location}, and no *.{} under it",
            wanted.endings[0]
        ))
        .help(format!("correct `{}` ('{pattern}'), or bring the file", wanted.setting)));
    }
    for entry in found {
        let place = container.join(&entry.name)?;
        let object = Object { place, bytes: entry.size, version: entry.version };
        listing.files.insert(container.shown(&entry.name), Found::Object(object));
    }
    Ok(())
}

/// The objects of a glob, or those under a path whose names end so.
fn matching(
    container: &Location,
    pattern: &str,
    path: &str,
    wanted: Wanted<'_>,
) -> Result<Vec<seriatim_storage::Entry>> {
    let (glob_texts, prefix) = if is_glob(path) {
        let prefix = path.split(['*', '?', '[', '{']).next().unwrap_or_default().to_owned();
        (expanded(path, wanted.setting)?, prefix)
    } else {
        let folder = if path.is_empty() { String::new() } else { format!("{path}/") };
        let under = glob::Pattern::escape(&folder);
        (wanted.endings.iter().map(|ending| format!("{under}**/*.{ending}")).collect(), folder)
    };
    let globs = glob_texts.iter().map(|text| glob::Pattern::new(text).map(|glob| (glob, text)));
    let globs = globs.collect::<Result<Vec<_>, _>>().map_err(|e| not_a_glob(pattern, wanted.setting, &e))?;
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    let mut entries = container.list(&prefix)?;
    entries.retain(|entry| {
        globs.iter().any(|(glob, text)| glob.matches_with(&entry.name, options) && !is_hidden(&entry.name, text))
    });
    Ok(entries)
}

/// Whether a part of `name` that the pattern does not spell out starts with `_` or `.`.
fn is_hidden(name: &str, pattern: &str) -> bool {
    let spelled: Vec<&str> = pattern.split('/').collect();
    name.split('/').any(|part| part.starts_with(['_', '.']) && part != ".." && part != "." && !spelled.contains(&part))
}

fn name_of(folder: &Path, path: &Path) -> Result<String> {
    // One file has one name, however the pattern spells it: within the pipeline's folder it is relative to that.
    let relative: PathBuf = path.strip_prefix(folder).unwrap_or(path).components().collect();
    let name = relative.to_str().ok_or_else(|| {
        IngestError::input(format!("the name of {} is not UTF-8", path.display())).help("rename the file")
    })?;
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path, patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(|&p| p.to_owned()).collect();
        list(folder, &patterns, None, "source.files").unwrap().files.into_keys().collect()
    }

    #[test]
    fn g3_files_come_in_order_of_their_names_however_they_are_found() {
        let folder = tempfile::Builder::new().prefix("a[1]b").tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("d/_skip")).unwrap();
        for file in ["d/b.parquet", "d/a.parquet", "d/B.parquet", "d/_skip/c.parquet", "d/.x.parquet", "d/n.txt"] {
            std::fs::write(root.join(file), "").unwrap();
        }
        let expected = ["d/B.parquet", "d/a.parquet", "d/b.parquet"];
        assert_eq!(names(root, &["d"]), expected);
        assert_eq!(names(root, &["d/*.parquet"]), expected);
        assert_eq!(names(root, &["d/b.parquet", "./d/a.parquet", "d/[B]*"]), expected);
        assert_eq!(names(root, &["d/_skip/*.parquet"]), ["d/_skip/c.parquet"]);
        assert_eq!(names(root, &["d/{a,b,none}.parquet"]), ["d/a.parquet", "d/b.parquet"]);
        assert_eq!(names(root, &["{x,d}/{B,a*}"]), ["d/a.parquet"]);
        std::fs::write(root.join("d/{a,b}.parquet"), "").unwrap();
        assert_eq!(names(root, &["d/{a,b}.parquet"]), ["d/{a,b}.parquet"]);
        std::fs::remove_file(root.join("d/{a,b}.parquet")).unwrap();
        for file in ["d/x.csv", "d/e/y.tsv.gz", "d/z.jsonl"] {
            std::fs::create_dir_all(root.join("d/e")).unwrap();
            std::fs::write(root.join(file), "").unwrap();
        }
        let of = |format| {
            list(root, &["d".to_owned()], Some(format), "source.files").unwrap().files.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(of(SourceFormat::Csv), ["d/e/y.tsv.gz", "d/x.csv"]);
        assert_eq!(of(SourceFormat::Ndjson), ["d/z.jsonl"]);
        assert_eq!(of(SourceFormat::Parquet), expected);
    }

    #[test]
    fn g5_a_file_has_one_name_however_it_is_spelled() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("d")).unwrap();
        std::fs::write(root.join("d/a.parquet"), "").unwrap();
        let absolute = root.join("d/a.parquet").to_string_lossy().into_owned();
        assert_eq!(names(root, &["d/*.parquet", &absolute, "d/./a.parquet", "./d//a.parquet"]), ["d/a.parquet"]);
        std::os::unix::fs::symlink(root.join("d/a.parquet"), root.join("d/b.parquet")).unwrap();
        let error = list(root, &["d".to_owned()], None, "source.files").unwrap_err();
        assert!(error.message.contains("d/a.parquet and d/b.parquet are the same file"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_and_an_empty_glob_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let error = list(folder.path(), &["x.parquet".to_owned()], None, "source.files").unwrap_err();
        assert!(error.message.contains("x.parquet"), "{error}");
        assert_eq!(
            list(folder.path(), &["*.parquet".to_owned()], None, "source.files").unwrap().unmatched,
            ["*.parquet"]
        );
    }
}
