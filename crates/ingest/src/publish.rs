//! Admitting a run to the critical section, and publishing it: the two places where the output folder, the state folder
//! and the entities must agree. Publishing is renaming what is whole and synced, then replacing the manifest; done
//! again, it finds itself done. Must never touch a file that a reader may have open.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use seriatim_pipeline::model::{OnConflict, Pipeline};

use crate::committed::{
    Committed, CommittedTable, ledger_path, read_committed, read_files, write_committed, write_files,
};
use crate::context::{RunContext, work_folder};
use crate::error::{IngestError, Result};
use crate::files::{make_folder, sync_folder, write_json, write_whole};
use crate::keymap::{
    Counting, Entries, MERGE_SEGMENTS, Prefixes, Sorting, UNKNOWN, count_keys, visit_shard, write_segment,
};
use crate::keys::shard_of;
use crate::layout::layout_change;
use crate::manifest::{Manifest, ManifestFile, ManifestRun, manifest_path, read_manifest};
use crate::number::{Reserved, ReservedTable, id_of, out_of_range};
use crate::plan::FileMemory;
use crate::sequence::{CatalogState, SequenceState};
use crate::steps::{Admission, Publish};
use crate::write::{Staged, file_name, folder_name, quarantine_index, staged_path, staging_folder};

/// Decides, while the run holds its sequences, whether it may go on.
pub(crate) fn admit(run: &RunContext, catalog: &CatalogState, sequences: &[SequenceState]) -> Result<Admission> {
    let pipeline = &run.plan.pipeline;
    let copy = refresh_copy(run, catalog, sequences)?;
    if !copy.output.is_empty() && copy.output != pipeline.output.path {
        return Err(IngestError::pipeline(format!(
            "pipeline '{}' publishes to '{}' in this state folder, not to '{}'",
            pipeline.name, copy.output, pipeline.output.path
        ))
        .help("give the second output its own `state`, or its own pipeline `name`"));
    }
    crate::ids::check_sources(pipeline, sequences)?;
    check_published(&run.output(), &pipeline.name, catalog.number)?;
    let left = stale_staging(run);
    if !left.is_empty() {
        // Who holds the sequences is the only one at work here, so this is of a run that could not tidy up. Without
        // such a sign nothing is removed: a file of that name could be somebody's only copy.
        withdraw(run)?;
        left.iter().try_for_each(|folder| crate::files::remove_folder(folder))?;
    }
    check_output(&run.output(), &pipeline.name, pipeline.tables.iter().map(|t| t.name.as_str()), catalog.number)?;
    if catalog.number > 0
        && let Some(change) = layout_change(&catalog.layout, &run.layout.signatures())
    {
        return Err(
            IngestError::pipeline(change).help("change it back, or start anew with another `state` and `output.path`")
        );
    }
    let memory = read_files(run.state(), &pipeline.name, catalog.number)?;
    let overlap = run.plan.files.iter().any(|file| memory.contains_key(&file.name));
    Ok(if overlap { Admission::Outdated } else { Admission::Granted })
}

/// Brings the state folder's copy of the entities up to date: a crash or a full disk may have kept an older one.
fn refresh_copy(run: &RunContext, catalog: &CatalogState, sequences: &[SequenceState]) -> Result<Committed> {
    let pipeline = &run.plan.pipeline;
    let copy = read_committed(run.state(), &pipeline.name)?;
    if copy.number > catalog.number {
        return Err(IngestError::state(format!(
            "the state folder has {} published runs of '{}', the task hub in it {}",
            copy.number, pipeline.name, catalog.number
        ))
        .help("parts of the state folder are of different times: bring all of it back from one backup"));
    }
    if copy.number == catalog.number {
        check_sequences(pipeline, &copy, sequences)?;
        return Ok(copy);
    }
    let output = if copy.output.is_empty() { pipeline.output.path.clone() } else { copy.output };
    let tables = pipeline.tables.iter().zip(sequences).map(|(table, sequence)| CommittedTable {
        table: table.name.clone(),
        next: sequence.next,
        segments: sequence.segments.clone(),
        others: sequence.others,
    });
    let fresh = Committed { number: catalog.number, output, layout: catalog.layout.clone(), tables: tables.collect() };
    write_committed(run.state(), &pipeline.name, &fresh)?;
    Ok(fresh)
}

/// The sequences must be where the last run left them. Whoever may use a task hub that is served can take an entity's
/// state away; its sequence would begin again, and give IDs a second time.
fn check_sequences(pipeline: &Pipeline, copy: &Committed, sequences: &[SequenceState]) -> Result<()> {
    for (table, sequence) in pipeline.tables.iter().zip(sequences) {
        let kept = copy.tables.iter().find(|kept| kept.table == table.name);
        if kept.is_some_and(|kept| (kept.next, &kept.segments) != (sequence.next, &sequence.segments)) {
            return Err(IngestError::state(format!(
                "the sequence of table '{}' in the task hub is not as the last published run left it",
                table.name
            ))
            .help("something else has changed or purged it: bring the state folder back from a backup taken with the output"));
        }
    }
    Ok(())
}

/// The output folder must hold what `number` runs have published, and no strangers where readers look.
pub(crate) fn check_output<'a>(
    output: &Path,
    pipeline: &str,
    tables: impl Iterator<Item = &'a str>,
    number: u64,
) -> Result<()> {
    let manifest = check_published(output, pipeline, number)?;
    let published: BTreeSet<String> = manifest.iter().flat_map(Manifest::files).map(|f| f.path.clone()).collect();
    let folders: Vec<&str> = tables.chain(["_quarantine"]).collect();
    refuse_strangers(output, |name| name == "_seriatim" || folders.contains(&name))?;
    for folder in &folders {
        refuse_strangers(&output.join(folder), |name| published.contains(&format!("{folder}/{name}")))?;
    }
    Ok(())
}

/// The output folder must be this pipeline's and hold what `number` runs have published.
fn check_published(output: &Path, pipeline: &str, number: u64) -> Result<Option<Manifest>> {
    let manifest = read_manifest(output)?;
    let (owner, published) = manifest.as_ref().map_or((pipeline, 0), |m| (m.pipeline.as_str(), m.number()));
    if owner != pipeline {
        return Err(IngestError::output(format!("{} holds the output of pipeline '{owner}'", output.display()))
            .help("give this pipeline an `output.path` of its own"));
    }
    if published != number {
        return Err(IngestError::output(format!(
            "{} holds {published} published runs, the state folder knows {number}",
            output.display()
        ))
        .help(
            "state and output belong together: bring back the one that is missing or older, \
             or remove both to ingest everything anew",
        ));
    }
    Ok(manifest)
}

/// What a reader would take for a part of the output must be one. Hidden files are nobody's data.
fn refuse_strangers(folder: &Path, ours: impl Fn(&str) -> bool) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let name = entry.map_err(|e| IngestError::io("list", folder, &e))?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !ours(&name) {
            let path = folder.join(&name);
            return Err(IngestError::output(format!("{} was not written by this pipeline", path.display())).help(
                "move it away, or choose an empty `output.path`: readers would take it for a part of the output",
            ));
        }
    }
    Ok(())
}

/// Writes the key map's segment of this run; gives the segments that count from now on.
pub(crate) fn keep_keys(run: &RunContext, reserved: &Reserved, table: u32) -> Result<Vec<String>> {
    let block = &reserved.tables[table as usize];
    if block.count == 0 {
        return Ok(block.segments.clone());
    }
    let folder = run.keymap_folder(table);
    make_folder(&folder)?;
    let merge = block.segments.len() + 1 >= MERGE_SEGMENTS;
    let name = format!("{:06}{}.parquet", reserved.number, if merge { "-merged" } else { "" });
    let layout = run.table(table);
    let fixed = layout.codec.as_ref().is_some_and(crate::keys::KeyCodec::is_fixed);
    let before = if merge { count_keys(&folder, &block.segments)? } else { 0 };
    let path = folder.join(&name);
    let alone = !merge && layout.on_conflict != OnConflict::Error;
    let kept = if alone && fixed { run.new_keys(table, block)? } else { None };
    if let Some(keys) = kept.as_ref().and_then(|kept| kept.numbers()) {
        write_segment(&path, layout, &mut Counting::new(keys, block.first))?;
    } else {
        let mut sorting = Sorting::new(fixed, before + block.count, |batch, batches| {
            let mut entries = Entries::new(fixed, ((before + block.count) / u64::from(batches)) as usize);
            if merge {
                visit_shard(&folder, &block.segments, layout, batch, batches, &Prefixes::all(), |key| {
                    entries.push(key.key, key.place, key.attributes);
                    Ok(())
                })?;
            }
            add_new_keys(run, table, batch, batches, block, &mut entries)?;
            Ok(entries)
        });
        write_segment(&path, layout, &mut sorting)?;
    }
    Ok(if merge { vec![name] } else { [block.segments.as_slice(), &[name]].concat() })
}

/// Adds the new keys whose hashes are in a batch of the segment.
fn add_new_keys(
    run: &RunContext,
    table: u32,
    batch: u32,
    batches: u32,
    block: &ReservedTable,
    entries: &mut Entries,
) -> Result<()> {
    let numbering = run.numbering(table, block)?;
    let shards = run.plan.shards;
    let of_batch = if shards >= batches {
        batch * (shards / batches)..(batch + 1) * (shards / batches)
    } else {
        let shard = batch / (batches / shards);
        shard..shard + 1
    };
    for shard in of_batch {
        run.keys(table).settled(shard, |keys, _| {
            for key in keys.iter() {
                if numbering.is_first(key.first) && (shards >= batches || shard_of(key.key.hash(), batches) == batch) {
                    let attributes = keys.attributes(key.number).map_or(UNKNOWN, |(attributes, _)| attributes);
                    entries.push(key.key, numbering.place(key.first), attributes);
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Makes a run visible.
pub(crate) fn publish(run: &RunContext, step: &Publish) -> Result<()> {
    let output = run.output();
    let pipeline = &run.plan.pipeline;
    let number = step.reserved.number;
    let manifest = read_manifest(&output)?.unwrap_or_else(|| Manifest::new(&pipeline.name, &run.layout));
    if manifest.pipeline != pipeline.name {
        return Err(IngestError::output(format!(
            "{} now holds the output of pipeline '{}'",
            output.display(),
            manifest.pipeline
        ))
        .help("give this pipeline an `output.path` of its own"));
    }
    if manifest.number() >= number {
        return Ok(());
    }
    // What may still fail for want of space comes first; none of it is looked at before the manifest is in place.
    let mut memory = read_files(run.state(), &pipeline.name, number - 1)?;
    memory.extend(run.plan.files.iter().map(|file| (file.name.clone(), file.clone())));
    write_files(run.state(), &pipeline.name, number, &memory)?;
    keep_ledger(run, &step.reserved)?;
    let next = extended(run, manifest, step)?;
    rename_all(run, &step.reserved, &step.staged)?;
    make_folder(manifest_path(&output).parent().unwrap_or(&output))?;
    write_json(&manifest_path(&output), &next)
}

fn extended(run: &RunContext, mut manifest: Manifest, step: &Publish) -> Result<Manifest> {
    let number = step.reserved.number;
    for staged in &step.staged {
        let mut file = ManifestFile {
            path: format!("{}/{}", folder_name(run, staged.table), file_name(number, staged.group)),
            run: number,
            rows: staged.rows,
            bytes: staged.bytes,
            xxh3: staged.hash.clone(),
            ids: None,
        };
        if staged.table == quarantine_index(run) {
            manifest.quarantine.push(file);
            continue;
        }
        if let Some(id) = &run.table(staged.table).id {
            let ends = id_of(id, staged.first).zip(id_of(id, staged.first + staged.rows - 1));
            file.ids = Some(ends.ok_or_else(|| out_of_range(id))?);
        }
        let table = &mut manifest.tables[staged.table as usize];
        table.rows += staged.rows;
        table.files.push(file);
    }
    manifest.runs.push(ManifestRun {
        number,
        files: run.plan.files.len() as u64,
        records: run.plan.files.iter().map(|f| f.rows).sum(),
        filtered: step.filtered,
        quarantined: step.quarantined,
    });
    Ok(manifest)
}

fn rename_all(run: &RunContext, reserved: &Reserved, staged: &[Staged]) -> Result<()> {
    let output = run.output();
    make_folder(&output)?;
    let mut folders = BTreeSet::new();
    for file in staged {
        let from = staged_path(run, reserved, file.table, file.group);
        let to = output.join(folder_name(run, file.table)).join(file_name(reserved.number, file.group));
        let size = |path: &Path| fs::metadata(path).ok().map(|m| m.len());
        if size(&from) == Some(file.bytes) {
            make_folder(to.parent().unwrap_or(&output))?;
            fs::rename(&from, &to).map_err(|e| IngestError::io("rename", &from, &e))?;
        } else if size(&to) != Some(file.bytes) {
            return Err(IngestError::output(format!("{} is not what was written there", from.display()))
                .help("something changed the output folder during the run; run again: nothing was published"));
        }
        folders.insert(to);
    }
    for file in &folders {
        sync_folder(file)?;
    }
    // The folders themselves may be new.
    sync_folder(&output.join("_"))
}

/// Which IDs each chunk was given.
#[derive(Serialize)]
struct Ledger<'a> {
    run: &'a str,
    number: u64,
    tables: Vec<&'a str>,
    chunks: Vec<LedgerChunk<'a>>,
}

#[derive(Serialize)]
struct LedgerChunk<'a> {
    file: &'a str,
    first_row: u64,
    rows: u32,
    /// For each table the first ID and how many; null where there is none.
    ids: Vec<Option<(i64, u64)>>,
}

/// Writes the ledger into the run's work folder while rows are written: a run that has only to be published must need
/// its sources no more.
pub(crate) fn draft_ledger(run: &RunContext, reserved: &Reserved) -> Result<()> {
    let mut chunks = Vec::with_capacity(run.plan.chunks.len());
    for (index, chunk) in (0..).zip(&run.plan.chunks) {
        let mut ids = Vec::with_capacity(run.layout.tables.len());
        for (table, layout) in (0..).zip(&run.layout.tables) {
            let places = run.numbering(table, &reserved.tables[table as usize])?.chunk(index);
            let count = places.end - places.start;
            ids.push(
                layout.id.as_ref().and_then(|id| id_of(id, places.start)).map(|id| (id, count)).filter(|_| count > 0),
            );
        }
        let file = run.plan.files[chunk.file as usize].name.as_str();
        chunks.push(LedgerChunk { file, first_row: chunk.first_row, rows: chunk.rows, ids });
    }
    let tables = run.layout.tables.iter().map(|t| t.name.as_str()).collect();
    let ledger = Ledger { run: &run.plan.run, number: reserved.number, tables, chunks };
    write_json(&ledger_draft(run), &ledger)
}

fn ledger_draft(run: &RunContext) -> PathBuf {
    work_folder(run.state(), &run.plan.run).join("ledger.json")
}

/// Keeps the ledger of a run that is published.
fn keep_ledger(run: &RunContext, reserved: &Reserved) -> Result<()> {
    let draft = ledger_draft(run);
    if !draft.exists() {
        draft_ledger(run, reserved)?;
    }
    let path = ledger_path(run.state(), &run.plan.pipeline.name, reserved.number);
    make_folder(path.parent().unwrap_or(&path))?;
    write_whole(&path, &fs::read(&draft).map_err(|e| IngestError::io("read", &draft, &e))?)
}

/// Keeps the copy of the entities after they have committed, and removes key map segments that no longer count.
pub(crate) fn keep_committed(run: &RunContext, reserved: &Reserved, segments: &[Vec<String>]) -> Result<()> {
    let tables = (0..).zip(&run.layout.tables).map(|(index, table): (usize, _)| CommittedTable {
        table: table.name.clone(),
        next: reserved.tables[index].first + reserved.tables[index].count,
        segments: segments[index].clone(),
        others: reserved.tables[index].others,
    });
    let committed = Committed {
        number: reserved.number,
        output: run.plan.pipeline.output.path.clone(),
        layout: run.layout.signatures(),
        tables: tables.collect(),
    };
    write_committed(run.state(), &run.plan.pipeline.name, &committed)?;
    clear_staging(run)?;
    for (table, kept) in (0..).zip(segments) {
        for segment in reserved.tables[table as usize].segments.iter().filter(|s| !kept.contains(s)) {
            let _ = fs::remove_file(run.keymap_folder(table).join(segment));
        }
    }
    Ok(())
}

/// Removes what a run that failed has left in the output: staged files, and files of a publication that did not come to
/// its end. Only who holds the sequences may call this: the files could be another run's otherwise.
pub(crate) fn withdraw(run: &RunContext) -> Result<()> {
    let output = run.output();
    clear_staging(run)?;
    let manifest = read_manifest(&output)?;
    let unpublished = format!("part-{:06}-", manifest.as_ref().map_or(0, Manifest::number) + 1);
    for table in 0..=quarantine_index(run) {
        let folder = output.join(folder_name(run, table));
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&unpublished) {
                fs::remove_file(entry.path()).map_err(|e| IngestError::io("remove", &entry.path(), &e))?;
            }
        }
        // A folder that only this run needed; one that holds something stays.
        let _ = fs::remove_dir(&folder);
    }
    if manifest.is_none() {
        let _ = fs::remove_dir(output.join("_seriatim"));
        let _ = fs::remove_dir(output);
    }
    Ok(())
}

/// The staging folders that earlier runs of this pipeline have left.
fn stale_staging(run: &RunContext) -> Vec<PathBuf> {
    let prefix = format!("{}-", run.plan.pipeline.name);
    let is_ours = |name: &str| name.strip_prefix(&prefix).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    let all = staging_folder(run).parent().and_then(|all| fs::read_dir(all).ok());
    let entries = all.into_iter().flatten().flatten();
    entries.filter(|e| is_ours(&e.file_name().to_string_lossy())).map(|e| e.path()).collect()
}

fn clear_staging(run: &RunContext) -> Result<()> {
    let folder = staging_folder(run);
    crate::files::remove_folder(&folder)?;
    if let Some(all) = folder.parent() {
        let _ = fs::remove_dir(all);
    }
    Ok(())
}

/// The memory of files, for a look without a run.
pub(crate) fn file_memory(state: &Path, pipeline: &str) -> Result<FileMemory> {
    let committed = read_committed(state, pipeline)?;
    read_files(state, pipeline, committed.number)
}
