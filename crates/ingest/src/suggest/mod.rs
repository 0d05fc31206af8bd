//! A first pipeline file from what source files contain: a sample of the records is read, functional dependencies between
//! its columns are found, tables are made of them, and the text of a pipeline is written that says why. What is found
//! holds in the sample and is a proposal; this module must never write, nor depend on time or chance: the same files
//! give the same text.

mod coded;
mod depend;
mod names;
mod sample;
mod sources;
mod tables;
mod text;
mod why;

pub use why::{counted, grouped};

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::Serialize;
use seriatim_pipeline::model::SourceFormat;

use crate::error::{IngestError, Result};
use crate::text::as_declared;
use coded::Coded;

/// What to look at, and how.
#[derive(Debug, Clone)]
pub struct SuggestOptions {
    /// Files, folders, globs and addresses. Relative ones start at `here`.
    pub files: Vec<String>,
    /// The folder that relative paths of `files` start at; absolute.
    pub here: PathBuf,
    /// The folder that the pipeline file will be in; absolute.
    pub folder: PathBuf,
    /// The pipeline's name; `None` for one that is made of the files' names.
    pub name: Option<String>,
    /// How many records to look at, at most; at least 1.
    pub sample: u64,
    /// Threads.
    pub workers: usize,
}

/// A pipeline that may suit some files, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Suggestion {
    /// The pipeline's name.
    pub name: String,
    /// `source.files`, as the pipeline has it.
    pub source: Vec<String>,
    /// `source.format`, if names do not tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<SourceFormat>,
    /// `source.csv.delimiter`, if it is not the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// How many files there are.
    pub files: u64,
    /// How many records they have.
    pub records: u64,
    /// How many of them were looked at.
    pub looked_at: u64,
    /// The columns that can be used, in the order of the files.
    pub columns: Vec<SuggestedColumn>,
    /// The tables, those that others refer to first.
    pub tables: Vec<SuggestedTable>,
    /// Columns that the pipeline does not name, and why.
    pub left_out: Vec<LeftOut>,
    /// The output folder.
    pub output: String,
    /// The text of the pipeline file.
    #[serde(skip)]
    pub text: String,
}

/// A column of the source, in the records that were looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SuggestedColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The type as `source.columns` declares it, if it was found in text files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared: Option<String>,
    /// How many distinct values it has, null not counted.
    pub distinct: u64,
    /// How many records have none.
    pub nulls: u64,
}

/// A table of the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SuggestedTable {
    /// Its name.
    pub name: String,
    /// Its key; empty where every record is a row.
    pub key: Vec<String>,
    /// Its ID column.
    pub id: String,
    /// The tables that it refers to.
    pub references: Vec<String>,
    /// Its other columns.
    pub columns: Vec<String>,
    /// Why it is a table, and what is in it.
    pub why: Vec<String>,
    /// What a person should look at before a run.
    pub beware: Vec<String>,
    /// Whether records have no key, so that the pipeline should say what becomes of them.
    pub null_keys: bool,
}

/// A column that the pipeline does not name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its name.
    pub column: String,
    /// Why it is left out.
    pub why: String,
}

/// Looks at a sample of some files and suggests a pipeline for them.
pub fn suggest(options: &SuggestOptions) -> Result<Suggestion> {
    let source = sources::source(options)?;
    let sample = sample::take(&options.folder, source, options.sample, options.workers)?;
    let name = match &options.name {
        Some(name) => name.clone(),
        None => names::pipeline(sample.files.iter().map(String::as_str)),
    };
    if sample.records == 0 {
        return Err(IngestError::input("the files have no records: there is nothing to learn from")
            .help("name files that have some; a pipeline can also be written by hand, see docs/pipeline.md"));
    }
    if sample.columns.is_empty() {
        return Err(IngestError::input("the files have no column that a table could take")
            .help("flat columns of numbers, text, dates, times, booleans or bytes are what tables are made of"));
    }
    let design = tables::design(&sample.columns, options.workers)?;
    let named = names::Named::new(&sample.columns, &design, &name);
    let suggested = why::explain(&sample, &design, &named);
    let mut suggestion = Suggestion {
        name,
        source: sample.source.files,
        format: sample.source.format,
        delimiter: sample.source.csv.delimiter,
        files: sample.files.len() as u64,
        records: sample.records,
        looked_at: sample.looked_at,
        columns: sample.columns.iter().map(|column| SuggestedColumn::of(column, sample.has_texts)).collect(),
        tables: suggested,
        left_out: sample.left_out,
        output: sources::output(&options.folder),
        text: String::new(),
    };
    suggestion.text = text::write(&suggestion);
    Ok(suggestion)
}

impl SuggestedColumn {
    fn of(column: &Coded, is_of_texts: bool) -> Self {
        let (distinct, nulls) = (column.distinct.into(), column.nulls.into());
        let declared = as_declared(&column.kind).filter(|_| is_of_texts).map(|kind| kind.to_string());
        Self { name: column.name.clone(), kind: column.kind.to_string(), declared, distinct, nulls }
    }
}
