//! The audit: proves the guarantees from the outputs alone, by reading every byte and every row. It trusts the manifest
//! only to say what should be there. Must never look at the state folder, and never write.

mod adopted;
mod groups;
mod scattered;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use seriatim_pipeline::model::{Format, Id, Pipeline};

use adopted::Adoptions;
use groups::Groups;

use crate::delta;
use crate::error::Result;
use crate::keys::{Interner, KeyCodec};
use crate::manifest::{Manifest, ManifestFile, ManifestRun, ManifestTable};
use crate::number::{id_of, ordinal_of};
use crate::output::Output;
use crate::partition::complete;
use crate::plan::in_parallel;
use crate::project::Project;
use crate::publish::check_output;
use crate::report::{VerifyCheck, VerifyReport};
use crate::source::{contain, hash_of};
use crate::suggest::counted;
use crate::text_ids::TextIds;
use crate::write::QUARANTINE;
use scattered::Scattered;
use versions::Versions;

/// Audits a pipeline's outputs with up to `workers` threads.
pub fn verify(project: &Project, workers: usize) -> Result<VerifyReport> {
    let output = project.output()?;
    let pipeline = project.pipeline();
    let manifest = output.published()?;
    let mut checks = vec![check_folder(&output, pipeline, &manifest)];
    let files: Vec<&ManifestFile> = manifest.files().collect();
    let found = in_parallel(workers, &files, |file| Ok(check_file(&output, file)))?;
    let adopted = Adoptions::read(&output, &manifest)?;
    let audit = |table: &_| Ok(audit_table(&output, table, &manifest, pipeline, &adopted));
    let audited = in_parallel(workers, &manifest.tables, audit)?;
    let (audited, hashes): (Vec<_>, Vec<_>) = audited.into_iter().unzip();
    checks.push(summary("files", None, found.into_iter().chain(hashes), || {
        let bytes: u64 = files.iter().map(|f| f.bytes).sum();
        format!("{} files, {bytes} bytes: sizes and checksums are those that were published", files.len())
    }));
    checks.extend(audited.into_iter().flatten());
    if pipeline.output.format == Format::Delta {
        checks.extend(in_parallel(workers, &manifest.tables, |table| Ok(delta::audit(&output, &manifest, table)))?);
    }
    checks.push(check_counts(&output, &manifest));
    checks.extend(check_aside(&manifest));
    if !pipeline.ids.is_entity() {
        checks.extend(check_counter(pipeline, &manifest));
    }
    Ok(VerifyReport { pipeline: manifest.pipeline, ok: checks.iter().all(|c| c.ok), checks })
}

fn summary(
    guarantee: &str,
    table: Option<&str>,
    problems: impl IntoIterator<Item = Option<String>>,
    good: impl FnOnce() -> String,
) -> VerifyCheck {
    let problem = problems.into_iter().flatten().next();
    VerifyCheck {
        guarantee: guarantee.to_owned(),
        table: table.map(str::to_owned),
        ok: problem.is_none(),
        message: problem.unwrap_or_else(good),
        help: None,
    }
}

fn check_folder(output: &Output, pipeline: &Pipeline, manifest: &Manifest) -> VerifyCheck {
    let mut names = pipeline.tables.iter().map(|t| t.name.as_str());
    let (problem, help) = match check_output(output, pipeline, manifest.number()) {
        Ok(()) => (None, None),
        Err(error) => (Some(error.message), error.help),
    };
    let missing = names.find(|name| !manifest.tables.iter().any(|t| t.table == *name));
    let missing = missing.map(|name| format!("the manifest has no table '{name}'"));
    let check = summary("G8", None, [problem, missing], || {
        format!("the table folders hold what {} wrote, and nothing else", counted(manifest.number(), "published run"))
    });
    VerifyCheck { help, ..check }
}

fn check_file(output: &Output, file: &ManifestFile) -> Option<String> {
    match output.size(&file.path) {
        Err(e) => return Some(e.message),
        Ok(None) => return Some(format!("{} is gone", file.path)),
        Ok(Some(bytes)) if bytes != file.bytes => {
            return Some(format!("{} has {bytes} bytes; {} were published", file.path, file.bytes));
        }
        Ok(Some(_)) => {}
    }
    // The audit of a table reads its objects; that one must fetch them is enough.
    if output.as_folder().is_none() && !file.path.starts_with(QUARANTINE) {
        return None;
    }
    match output.hash(&file.path) {
        Err(e) => Some(e.message),
        Ok(hash) => check_hash(file, &hash),
    }
}

fn check_hash(file: &ManifestFile, hash: &str) -> Option<String> {
    (hash != file.xxh3).then(|| format!("{} is not what was published: its checksum differs", file.path))
}

/// The state of one table's audit.
struct Audit<'a> {
    table: &'a ManifestTable,
    codec: Option<KeyCodec>,
    /// How its text IDs are made.
    texts: Option<Arc<TextIds>>,
    keys: Interner,
    /// The groups within which its rows are numbered.
    groups: Groups,
    /// How the versions of things follow each other.
    versions: Versions,
    /// Rows of things; of their first versions, if there are others.
    rows: u64,
    /// Whether others take IDs from the same counter: then each run has a block of its own.
    shared: bool,
    /// The IDs of a table that is partitioned.
    scattered: Option<Scattered>,
    /// How far the place of a row's ID is beyond the row's own.
    shift: u64,
    /// The run that the last file is of.
    run: u64,
    /// The first problem by guarantee.
    problems: BTreeMap<&'static str, String>,
    /// The columns that refer to another table, that table, and the places that its IDs have.
    referenced: Vec<(String, &'a ManifestTable, Blocks)>,
    /// Keys that existed before, of all tables.
    adopted: &'a Adoptions,
}

/// Whether a table's IDs come from a counter that others may use.
fn is_shared(pipeline: &Pipeline, table: &ManifestTable) -> bool {
    pipeline.tables.iter().any(|t| t.name == table.table && pipeline.sequence(t).is_some())
}

/// The places before those of a table's rows: of IDs that existed before.
fn places_before(table: &ManifestTable) -> u64 {
    table.adopted.as_ref().map_or(0, |adopted| adopted.places)
}

/// Places of IDs: where each block begins, and how many it has.
type Blocks = Vec<(u64, u64)>;

/// The places of a table's IDs, as the manifest has them; runs that follow each other are one block.
fn blocks(table: &ManifestTable) -> Blocks {
    let mut blocks: Blocks = Vec::new();
    for (_, first, count) in table.blocks() {
        match blocks.last_mut() {
            Some((start, before)) if *start + *before == first => *before += count,
            _ => blocks.push((first, count)),
        }
    }
    blocks
}

/// The checks of a table, and the first of its objects that is not what was published.
fn audit_table(
    output: &Output,
    table: &ManifestTable,
    manifest: &Manifest,
    pipeline: &Pipeline,
    adopted: &Adoptions,
) -> (Vec<VerifyCheck>, Option<String>) {
    let find = |name: &str| manifest.tables.iter().find(|t| t.table == name);
    let with_blocks = |table: &ManifestTable| {
        if is_shared(pipeline, table) { blocks(table) } else { vec![(places_before(table), table.things())] }
    };
    let referenced = table.references.iter().filter_map(|(column, name)| {
        let target = find(name)?;
        Some((column.clone(), target, with_blocks(target)))
    });
    let mut audit = Audit {
        table,
        codec: None,
        texts: None,
        keys: Interner::new(true),
        groups: Groups::new(),
        versions: Versions::new(table, manifest),
        rows: 0,
        shared: is_shared(pipeline, table),
        scattered: None,
        shift: places_before(table),
        run: 0,
        problems: BTreeMap::new(),
        referenced: referenced.collect(),
        adopted,
    };
    if let Err(text) = audit.adopted_keys(output) {
        audit.problem("adopted", text);
    }
    match table.id.as_ref().and_then(|id| id.text.as_ref()).map(TextIds::new).transpose() {
        Ok(texts) => audit.texts = texts.map(Arc::new),
        Err(error) => audit.problem("text", error.message),
    }
    if !table.partition_by.is_empty() {
        let (scattered, problem) = Scattered::new(table, audit.shift, audit.shared);
        audit.scattered = Some(scattered);
        if let Some(problem) = problem {
            audit.problem("G2", problem);
        }
    }
    for file in &table.files {
        audit.begin(file);
        if let Err(e) = contain(|| audit.file(output, file)) {
            audit.problems.entry("G7").or_insert(format!("{}: {e}", file.path));
        }
    }
    let other = audit.problems.remove("files");
    (audit.finish(), other)
}

impl Audit<'_> {
    /// Where others take IDs as well, each run begins where the counter was; its files follow each other.
    fn begin(&mut self, file: &ManifestFile) {
        if !self.shared || file.run == self.run || self.scattered.is_some() {
            return;
        }
        self.run = file.run;
        let first = file.ids.and_then(|(first, _)| ordinal_of(self.table.id.as_ref()?, first));
        match first.and_then(|first| first.checked_sub(self.rows)) {
            Some(shift) if shift >= self.shift => self.shift = shift,
            _ => self.problem("G2", format!("{}: the run's IDs begin before the last run's end", file.path)),
        }
    }

    fn file(&mut self, output: &Output, file: &ManifestFile) -> Result<(), String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let mut open = output.open(&file.path).map_err(|e| text(&e))?;
        if output.as_folder().is_none()
            && let Some(problem) = check_hash(file, &hash_of(&mut open).map_err(|e| text(&e))?)
        {
            self.problem("files", problem);
        }
        let reader = ParquetRecordBatchReaderBuilder::try_new(open).map_err(|e| text(&e))?;
        let before = (self.rows, self.versions.later);
        for batch in reader.with_batch_size(1 << 16).build().map_err(|e| text(&e))? {
            let batch = batch.map_err(|e| text(&e))?;
            self.batch(&complete(self.table, file, &batch)?, file)?;
        }
        self.end_of_versions(&file.path)?;
        let (things, later) = (self.rows - before.0, self.versions.later - before.1);
        if things + later != file.rows {
            return Err(format!("{} rows where the manifest has {}", things + later, file.rows));
        }
        if things != file.things() {
            return Err(format!("rows of {things} things where the manifest has {}", file.things()));
        }
        Ok(())
    }

    fn problem(&mut self, guarantee: &'static str, text: String) {
        self.problems.entry(guarantee).or_insert(text);
    }

    fn batch(&mut self, batch: &RecordBatch, of: &ManifestFile) -> Result<(), String> {
        let file = of.path.as_str();
        let all = batch;
        let batch = &self.first_versions(all, file)?;
        let column = |name: &str| batch.column_by_name(name).cloned().ok_or(format!("column '{name}' is missing"));
        if let Some(id) = &self.table.id {
            let values = column(&id.column)?;
            if self.scattered.is_some() {
                self.scattered_ids(id, &values, of)?;
            } else {
                self.ids(id, &values, file)?;
            }
        }
        if let Some(group) = self.table.id.as_ref().and_then(|id| id.group.as_ref()) {
            let columns = group.columns.iter().map(|name| column(name)).collect::<Result<Vec<_>, _>>()?;
            self.numbers(&columns, &column(&group.number)?, file)?;
        }
        if let Some((id, texts)) = self.table.id.as_ref().zip(self.texts.clone()) {
            let values = texts.columns().iter().map(|name| column(name)).collect::<Result<Vec<_>, _>>()?;
            let number = id.group.as_ref().map_or(&id.column, |group| &group.number);
            self.texts(&texts, &column(number)?, &values, &column(self.text_column())?, file)?;
        }
        if !self.table.key.is_empty() {
            let columns: Vec<ArrayRef> = self.table.key.iter().map(|k| column(k)).collect::<Result<_, _>>()?;
            self.unique_keys(&columns, batch.num_rows(), file)?;
        }
        let of_all = |name: &str| all.column_by_name(name).cloned().ok_or(format!("column '{name}' is missing"));
        let referenced: Vec<(String, ArrayRef)> = self
            .referenced
            .iter()
            .map(|(name, _, _)| Ok((name.clone(), of_all(name)?)))
            .collect::<Result<_, String>>()?;
        for (index, (name, values)) in referenced.iter().enumerate() {
            self.references(index, name, values, file)?;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn text_column(&self) -> &str {
        self.table.id.as_ref().and_then(|id| id.text.as_ref()).map_or("", |text| &text.column)
    }

    /// A text is made of its row alone, in a form of which the number can be read again.
    fn texts(
        &mut self,
        texts: &TextIds,
        ids: &ArrayRef,
        values: &[ArrayRef],
        found: &ArrayRef,
        file: &str,
    ) -> Result<(), String> {
        let ids = ids.as_primitive_opt::<Int64Type>().ok_or("the ID column is not of 64-bit integers")?;
        let found = found.as_string_opt::<i32>().ok_or("the column of text IDs is not of texts")?;
        let expected = texts.of(ids.values(), values).map_err(|e| e.message)?;
        for (row, (found, expected)) in (0..).zip(found.iter().zip(&expected)) {
            if found != expected {
                let show = |text: Option<&str>| text.map_or_else(|| "none".to_owned(), |text| format!("'{text}'"));
                let (row, found, expected) = (self.rows + row, show(found), show(expected));
                self.problem(
                    "text",
                    format!(
                        "{file}: row {row} of the table has the {} {found} where {expected} is due",
                        self.text_column()
                    ),
                );
                break;
            }
        }
        Ok(())
    }

    /// Unique and dense at once: the row at place n has the n-th ID.
    fn ids(&mut self, id: &Id, values: &ArrayRef, file: &str) -> Result<(), String> {
        let values = values.as_primitive_opt::<Int64Type>().ok_or("the ID column is not of 64-bit integers")?;
        for (row, value) in (0..).zip(values.iter()) {
            let expected = id_of(id, self.shift + self.rows + row);
            if value != expected || value.is_none() {
                let show = |v: Option<i64>| v.map_or_else(|| "none".to_owned(), |v| v.to_string());
                let text = format!(
                    "{file}: row {} of the table has the {} {} where {} is due",
                    self.rows + row,
                    id.column,
                    show(value),
                    show(expected)
                );
                self.problem("G2", text);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Unique, and one of those that are due; whether all are there is known in the end.
    fn scattered_ids(&mut self, id: &Id, values: &ArrayRef, file: &ManifestFile) -> Result<(), String> {
        let values = values.as_primitive_opt::<Int64Type>().ok_or("the ID column is not of 64-bit integers")?;
        let Some(scattered) = &mut self.scattered else { return Ok(()) };
        if let Err(problem) = values.iter().try_for_each(|value| scattered.mark(id, file, value)) {
            self.problem("G2", problem);
        }
        Ok(())
    }

    fn unique_keys(&mut self, columns: &[ArrayRef], rows: usize, file: &str) -> Result<(), String> {
        if self.codec.is_none() {
            let codec =
                KeyCodec::new(columns.iter().map(|c| c.data_type().clone()).collect()).map_err(|e| e.message)?;
            self.keys = Interner::new(codec.is_fixed());
            self.codec = Some(codec);
        }
        let Some(codec) = self.codec.clone() else { return Err("no key".to_owned()) };
        let keys = codec.encode(columns);
        for row in 0..rows {
            let Some(key) = keys.get(row) else {
                self.problem("G4", format!("{file}: row {} has a null in its key", self.rows + row as u64));
                return Ok(());
            };
            if !self.keys.intern(key).1 {
                let text =
                    format!("{file}: the key {} has a second row, at {}", codec.display(key), self.rows + row as u64);
                self.problem("G4", text);
                return Ok(());
            }
        }
        Ok(())
    }

    fn references(&mut self, index: usize, name: &str, values: &ArrayRef, file: &str) -> Result<(), String> {
        let values = values.as_primitive_opt::<Int64Type>().ok_or(format!("'{name}' is not of 64-bit integers"))?;
        let (_, target, blocks) = &self.referenced[index];
        let Some(id) = &target.id else { return Err(format!("'{}' has no IDs", target.table)) };
        let is_there = |place: u64| {
            let after = blocks.partition_point(|&(first, _)| first <= place);
            after.checked_sub(1).is_some_and(|at| place - blocks[at].0 < blocks[at].1)
        };
        let adopted = |place: u64| target.adopted.is_some() && self.adopted.has(&target.table, place);
        let known = |value| ordinal_of(id, value).is_some_and(|place| is_there(place) || adopted(place));
        let stranger = values.iter().flatten().find(|&value| !known(value));
        if let Some(stranger) = stranger {
            let text = format!("{file}: {name} {stranger} is not an ID of '{}'", target.table);
            self.problem("references", text);
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<VerifyCheck> {
        let table = self.table;
        let name = Some(table.table.as_str());
        let mut checks = Vec::new();
        let (things, rows) = (self.rows, self.rows + self.versions.later);
        if rows != table.rows {
            self.problem("G7", format!("{rows} rows where the manifest has {}", table.rows));
        }
        if let (Some(scattered), Some(id)) = (&self.scattered, &table.id)
            && let Some(missing) = scattered.missing(id)
        {
            self.problem("G2", format!("the {} {missing} is in no partition", id.column));
        }
        if let Some(id) = &table.id {
            let order = if self.scattered.is_some() { "of the rows of each partition" } else { "of the rows" };
            let blocks = if self.shared { blocks(table) } else { vec![(places_before(table), things)] };
            let first = blocks.first().map_or(0, |(first, _)| *first);
            let last = blocks.last().and_then(|(first, count)| (first + count).checked_sub(1)).filter(|_| things > 0);
            let range = match last.and_then(|last| id_of(id, first).zip(id_of(id, last))) {
                Some((first, last)) => format!("{} {first} to {last}, step {}", id.column, id.step),
                None => "no IDs".to_owned(),
            };
            let gaps = match blocks.len() {
                0 | 1 => "no gap".to_owned(),
                n => format!("{n} blocks, no gap within one; what is between them is others' who share the counter"),
            };
            let problem = self.problems.remove("G2");
            checks.push(summary("G1", name, [problem.clone()], || format!("{things} IDs, none twice")));
            checks.push(summary("G2", name, [problem], || format!("{range}: {gaps}, in the order {order}")));
            checks.extend(self.numbers_check());
            if let Some(text) = &id.text {
                let problem = self.problems.remove("text");
                checks.push(summary("text", name, [problem], || {
                    let number = id.group.as_ref().map_or(&id.column, |group| &group.number);
                    let within = if id.group.is_some() { " within a group" } else { "" };
                    format!(
                        "every {} is its {number} as `{}`, so none is there twice{within}",
                        text.column, text.format
                    )
                }));
            }
        }
        checks.extend(self.versions_check());
        checks.extend(self.adopted_check());
        if !table.key.is_empty() {
            let problem = self.problems.remove("G4");
            let keys = self.keys.len() as u64 - self.adopted_count();
            checks.push(summary("G4", name, [problem], || {
                format!("{keys} keys ({}), each with one ID", table.key.join(", "))
            }));
        }
        for (column, target, _) in &self.referenced {
            let problem = self.problems.get("references").filter(|p| p.contains(column.as_str())).cloned();
            checks.push(summary("references", name, [problem], || {
                let before = target.adopted.as_ref().map_or(0, |adopted| adopted.keys);
                format!("every {column} is one of the {} IDs of '{}', or null", target.things() + before, target.table)
            }));
        }
        let problem = self.problems.remove("G7");
        checks.push(summary("G7", name, [problem], || format!("{rows} rows, as the manifest counts them")));
        checks
    }
}

/// Whether the counter outside has given the blocks that are published.
fn check_counter(pipeline: &Pipeline, manifest: &Manifest) -> Vec<VerifyCheck> {
    let looks = match crate::ids::look(pipeline) {
        Ok(looks) => looks,
        // The output is what is audited; a counter that is away does not make it wrong.
        Err(error) => {
            return vec![summary("counter", None, [], || format!("not compared with the counter: {}", error.message))];
        }
    };
    let mut checks = Vec::new();
    for (table, look) in pipeline.tables.iter().zip(looks) {
        let found = manifest.tables.iter().find(|t| t.table == table.name);
        let (Some(look), Some(found)) = (look, found) else { continue };
        let mut runs = found.blocks();
        // Blocks from before the counter began are of the pipeline's own entities.
        let begin = look.ranges.first().map_or(u64::MAX, |range| range.first);
        runs.retain(|(_, first, _)| *first >= begin);
        let is_known = |first: u64, count: u64| {
            let committed = look.ranges.iter().any(|range| (range.first, range.count) == (first, count));
            committed || look.open.as_ref().is_some_and(|open| (open.first, open.count) == (first, count))
        };
        let unknown = runs.iter().find(|(_, first, count)| !is_known(*first, *count));
        let problem = unknown.map(|(run, first, count)| {
            format!("run {run} has {count} IDs from place {first} on, and the counter has not given them to it")
        });
        checks.push(summary("counter", Some(&table.name), [problem], || {
            format!("the counter has given the {} blocks that are published", runs.len())
        }));
    }
    checks
}

/// Records in = records out, filtered, or in quarantine, for each run.
fn check_counts(output: &Output, manifest: &Manifest) -> VerifyCheck {
    let mut problems = Vec::new();
    for run in &manifest.runs {
        let of_run = |files: &[ManifestFile]| files.iter().filter(|f| f.run == run.number).map(|f| f.rows).sum::<u64>();
        let quarantined = of_run(&manifest.quarantine);
        if quarantined != run.quarantined {
            problems.push(Some(format!(
                "run {}: {quarantined} records are in quarantine where {} were counted",
                run.number, run.quarantined
            )));
        }
        for table in manifest.tables.iter().filter(|t| t.key.is_empty()) {
            let (written, read) = (of_run(&table.files), run.records);
            if let Some(from) = &table.from {
                problems.push(check_elements(run, table, from, written));
                continue;
            }
            if written + run.filtered + run.quarantined != read {
                problems.push(Some(format!(
                    "run {}: {read} records were read; '{}' has {written}, {} were filtered, {} are in quarantine",
                    run.number, table.table, run.filtered, run.quarantined
                )));
            }
        }
    }
    for file in &manifest.quarantine {
        if let Err(e) = contain(|| count_rows(output, &file.path, file.rows)) {
            problems.push(Some(format!("{}: {e}", file.path)));
        }
    }
    let sum = |f: fn(&ManifestRun) -> u64| manifest.runs.iter().map(f).sum::<u64>();
    summary("G7", None, problems, || {
        let mut told = format!(
            "{} records = written + {} filtered by the transform + {} in quarantine, run by run",
            sum(|r| r.records),
            sum(|r| r.filtered),
            sum(|r| r.quarantined)
        );
        for (list, elements) in elements_of_lists(manifest) {
            told = told + "; " + &elements.to_string() + " elements of '" + list + "'";
        }
        told
    })
}

/// Each element of a list in the records that were written is a row of a table without key.
fn check_elements(run: &ManifestRun, table: &ManifestTable, from: &str, written: u64) -> Option<String> {
    let counted = run.elements.get(from).copied();
    (counted != Some(written)).then(|| {
        let counted = counted.map_or_else(|| "none".to_owned(), |count| count.to_string());
        format!("run {}: {counted} elements of '{from}' were counted; '{}' has {written}", run.number, table.table)
    })
}

/// How many elements of each list all runs together have met.
fn elements_of_lists(manifest: &Manifest) -> BTreeMap<&str, u64> {
    let mut all = BTreeMap::new();
    for (list, count) in manifest.runs.iter().flat_map(|run| &run.elements) {
        *all.entry(list.as_str()).or_default() += count;
    }
    all
}

/// Files that were set aside: nothing of them is in the output, and that is told.
fn check_aside(manifest: &Manifest) -> Option<VerifyCheck> {
    let files = || manifest.runs.iter().flat_map(|run| run.aside.iter().map(move |file| (run.number, file)));
    let (run, first) = files().next()?;
    let count = files().count();
    let records: u64 = files().filter_map(|(_, file)| file.records).sum();
    let message = format!(
        "{count} files were set aside, with {records} records as far as they declare them: nothing of them is in the \
         output. The first, of run {run}: {}",
        first.what
    );
    Some(VerifyCheck { guarantee: "G7".to_owned(), table: None, message, ok: true, help: None })
}

fn count_rows(output: &Output, name: &str, expected: u64) -> Result<(), String> {
    let file = output.open(name).map_err(|e| e.to_string())?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(ParquetRecordBatchReaderBuilder::build);
    let mut rows = 0;
    for batch in reader.map_err(|e| e.to_string())? {
        rows += batch.map_err(|e| e.to_string())?.num_rows() as u64;
    }
    if rows == expected { Ok(()) } else { Err(format!("{rows} rows where the manifest has {expected}")) }
}
