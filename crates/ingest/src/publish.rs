//! Admitting a run to the critical section, and publishing it: the two places where the output folder, the state folder
//! and the entities must agree. Publishing is renaming what is whole and synced, then replacing the manifest; done
//! again, it finds itself done. Must never touch a file that a reader may have open.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use seriatim_pipeline::model::{Format, Pipeline};

use crate::added::{Added, published_name};
use crate::adopt::bring_adopted;
use crate::committed::{Committed, CommittedTable, read_committed, read_files, write_committed, write_files};
use crate::context::{RunContext, SegmentKind};
use crate::delta::{LOG, follow, is_behind};
use crate::drift::Known;
use crate::error::{IngestError, Result};
use crate::facts::{keep_facts, prune_facts, read_facts};
use crate::files::make_folder;
use crate::history::{is_replaced, remove_replaced};
use crate::keymap::{
    Counting, Entries, MERGE_SEGMENTS, Prefixes, Sorting, UNKNOWN, count_keys, visit_shard, write_segment,
};
use crate::keys::{KeyRef, shard_of};
use crate::layout::refuse_layout_change;
use crate::ledger::keep_ledger;
use crate::manifest::Manifest;
use crate::number::{Reserved, ReservedTable};
use crate::output::{Held, Output, Put};
use crate::plan::FileMemory;
use crate::project::Project;
use crate::sequence::{CatalogState, Range, SequenceState};
use crate::settled::is_outdated;
use crate::shared::{bring_committed, bring_kept, each_new_key, is_being_written, keep_segment};
use crate::source::SourceFile;
use crate::steps::{Admission, Publish};
use crate::suggest::counted;
use crate::withdraw::{clear_staging, withdraw_stale};
use crate::write::{QUARANTINE, Staged, staged_name};

/// Decides, while the run holds its sequences, whether it may go on.
pub(crate) fn admit(run: &RunContext, catalog: &CatalogState, sequences: &[SequenceState]) -> Result<Admission> {
    let pipeline = &run.plan.pipeline;
    if run.shared().is_some() {
        bring_committed(run.output()?, pipeline, run.state())?;
    }
    let copy = refresh_copy(run, catalog, sequences)?;
    if !copy.output.is_empty() && copy.output != pipeline.output.path {
        return Err(IngestError::pipeline(format!(
            "pipeline '{}' publishes to '{}' in this state folder, not to '{}'",
            pipeline.name, copy.output, pipeline.output.path
        ))
        .help("give the second output its own `state`, or its own pipeline `name`"));
    }
    crate::ids::check_sources(pipeline, sequences)?;
    // Another run has published since the plan was made, and said for ever where IDs begin.
    if is_outdated(&pipeline.tables, &run.plan.adopted, &catalog.layout) {
        return Ok(Admission::Outdated);
    }
    let held = run.take_output()?;
    if let Some(shared) = run.shared()
        && !shared.work.has_plan()?
    {
        // The run has ended elsewhere, and nobody else would give back what was taken just now.
        held.give_back()?;
        return Err(late(run));
    }
    let published = check_published(held.output(), &pipeline.name, catalog.number)?;
    refuse_replayed(run, published.as_ref())?;
    withdraw_stale(&held, pipeline, Some(&Manifest::new(&pipeline.name, &run.layout)), || refuse_late(run))?;
    if let Some(published) = published.as_ref().filter(|published| published.has_rewritten()) {
        // Of a run that died before it came to that, or could not.
        if pipeline.output.format == Format::Delta {
            follow(&held, published)?;
        }
        remove_replaced(&held, published)?;
    }
    check_output(held.output(), pipeline, catalog.number)?;
    if run.plan.drift.before != catalog.source {
        // Another run has published since: its types are to be held as well.
        return Ok(Admission::Outdated);
    }
    if catalog.number > 0 {
        refuse_layout_change(&catalog.layout, &run.layout, |column| run.plan.brings(&run.records, column))?;
    }
    if let Some(manifest) = published.filter(|_| pipeline.output.format == Format::Delta) {
        // Of a run that died before it came to that.
        follow(&held, &manifest)?;
    }
    let memory = read_files(run.state(), &pipeline.name, catalog.number)?;
    // Also what is to be set aside: another run may have found it mended.
    let is_ingested = |file: &SourceFile| memory.get(&file.name).is_some_and(|kept| kept.bad.is_none());
    let overlap = run.plan.files.iter().chain(&run.plan.aside).any(is_ingested);
    Ok(if overlap { Admission::Outdated } else { Admission::Granted })
}

/// Two replays of one record would be two things.
fn refuse_replayed(run: &RunContext, manifest: Option<&Manifest>) -> Result<()> {
    let runs = manifest.iter().flat_map(|manifest| &manifest.runs);
    let by = runs.into_iter().find(|by| by.replayed.iter().any(|path| run.plan.replayed.contains(path)));
    match by {
        None => Ok(()),
        Some(by) => Err(IngestError::state(format!("run {} has replayed these records in the meantime", by.number))
            .help("`seriatim quarantine` shows what still waits")),
    }
}

/// A step that was given to another worker, because this one was not heard of, may go on here much later. Must be asked
/// once what is to be removed is known: what the run itself puts into the output is not among that, or is found here.
fn refuse_late(run: &RunContext) -> Result<()> {
    match run.shared() {
        Some(shared) if is_being_written(shared)? => Err(late(run)),
        _ => Ok(()),
    }
}

fn late(run: &RunContext) -> IngestError {
    IngestError::state(format!("run '{}' was admitted by another worker, and goes on there", run.plan.run))
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
        source: sequence.source.clone(),
        last: sequence.source.as_ref().and_then(|_| sequence.ledger.last().cloned()),
        groups: sequence.groups.clone(),
        adopted: sequence.adopted,
    });
    let fresh = Committed {
        number: catalog.number,
        output,
        layout: catalog.layout.clone(),
        source: catalog.source.clone(),
        tables: tables.collect(),
    };
    write_committed(run.state(), &pipeline.name, &fresh)?;
    Ok(fresh)
}

/// The sequences must be where the last run left them. Whoever may use a task hub that is served can take an entity's
/// state away; its sequence would begin again, and give IDs a second time.
fn check_sequences(pipeline: &Pipeline, copy: &Committed, sequences: &[SequenceState]) -> Result<()> {
    for (table, sequence) in pipeline.tables.iter().zip(sequences) {
        let kept = copy.tables.iter().find(|kept| kept.table == table.name);
        let differs = |kept: &CommittedTable| {
            (kept.next, &kept.segments, &kept.groups) != (sequence.next, &sequence.segments, &sequence.groups)
        };
        if kept.is_some_and(differs) {
            return Err(IngestError::state(format!(
                "the sequence of table '{}' in the task hub is not as the last published run left it",
                table.name
            ))
            .help("something else has changed or purged it: bring the state folder back from a backup taken with the output"));
        }
    }
    Ok(())
}

/// The output must hold what `number` runs have published, and no strangers where readers look.
pub(crate) fn check_output(output: &Output, pipeline: &Pipeline, number: u64) -> Result<()> {
    let manifest = check_published(output, &pipeline.name, number)?;
    let mut published: BTreeSet<String> = manifest.iter().flat_map(Manifest::files).map(|f| f.path.clone()).collect();
    let folders: Vec<&str> = pipeline.tables.iter().map(|t| t.name.as_str()).chain([QUARANTINE]).collect();
    if number > 0 && pipeline.output.format == Format::Delta {
        published.extend(pipeline.tables.iter().map(|table| format!("{}/{LOG}", table.name)));
    }
    // What a reader would take for a part of the output must be one. Hidden files are nobody's data.
    let is_hidden = |name: &str| name.rsplit('/').next().is_some_and(|last| last.starts_with('.'));
    let found = output.visible(&folders)?;
    match found.iter().find(|name| !is_hidden(name) && !published.contains(*name)) {
        None => Ok(()),
        Some(name) if manifest.as_ref().is_some_and(|manifest| is_replaced(manifest, name)) => {
            Err(IngestError::output(format!("{} was written anew, and is still there", output.place_of(name)))
                .help("the next run removes it; until then read the files that the manifest names"))
        }
        Some(log) if number > 0 && log.ends_with(&format!("/{LOG}")) => Err(IngestError::pipeline(format!(
            "{output} holds tables of Delta Lake, and `output.format` is parquet: {} would not have what is ingested now",
            output.place_of(log)
        ))
        .help("write `output.format: delta`; or give Delta up, and remove the folder `_delta_log` of every table")),
        Some(name) => Err(IngestError::output(format!("{} was not written by this pipeline", output.place_of(name)))
            .help("move it away, or choose an empty `output.path`: readers would take it for a part of the output")),
    }
}

/// The output must be this pipeline's and hold what `number` runs have published.
fn check_published(output: &Output, pipeline: &str, number: u64) -> Result<Option<Manifest>> {
    let manifest = output.manifest()?;
    let (owner, published) = manifest.as_ref().map_or((pipeline, 0), |m| (m.pipeline.as_str(), m.number()));
    if owner != pipeline {
        return Err(IngestError::output(format!("{output} holds the output of pipeline '{owner}'"))
            .help("give this pipeline an `output.path` of its own"));
    }
    if published == number {
        return Ok(manifest);
    }
    let error = IngestError::output(format!(
        "{output} holds {}, the state folder knows {number}",
        counted(published, "published run")
    ));
    Err(if published > number && read_facts(output, published)?.is_some() {
        error.help(
            "`seriatim recover` brings the state folder up to the output from what is kept beside it; then run again",
        )
    } else {
        error.help(
            "state and output belong together: bring back the one that is missing or older, \
             or remove both to ingest everything anew",
        )
    })
}

/// A run that finds nothing to do must still notice that what was published is gone, or older than it was.
pub(crate) fn refuse_lost(project: &Project, state: &Path) -> Result<()> {
    let pipeline = project.pipeline();
    let committed = read_committed(state, &pipeline.name)?;
    if committed.number == 0 || committed.output != pipeline.output.path {
        return Ok(());
    }
    let output = project.output()?;
    // That more is published than the state folder knows of is no loss, and the next run that has something to do says so.
    if output.manifest()?.map_or(0, |manifest| manifest.number()) < committed.number {
        check_published(&output, &pipeline.name, committed.number)?;
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
    let name = run.segment_name(reserved.number, merge);
    run.bring_segments(SegmentKind::Keys, table, &block.segments)?;
    let layout = run.table(table);
    let fixed = layout.codec.as_ref().is_some_and(crate::keys::KeyCodec::is_fixed);
    let before = if merge { count_keys(&folder, &block.segments)? } else { 0 };
    let path = folder.join(&name);
    let alone = !merge && !layout.compares();
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
    if let Some(shared) = run.shared() {
        keep_segment(run, shared, SegmentKind::Keys, table, &name)?;
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
    let is_of_batch = |key: KeyRef<'_>| shards >= batches || shard_of(key.hash(), batches) == batch;
    for shard in of_batch {
        if let Some(shared) = run.shared() {
            each_new_key(run, shared, table, shard, &block.segments, |key, first, attributes| {
                if is_of_batch(key) {
                    entries.push(key, numbering.place(first), attributes);
                }
            })?;
            continue;
        }
        let positions = run.positions(table)?;
        run.keys(table).settled(shard, |keys, _| {
            for key in keys.iter() {
                let first = positions.of_place(key.first);
                if numbering.is_first(first) && is_of_batch(key.key) {
                    let attributes = keys.attributes(key.number).map_or(UNKNOWN, |(attributes, _)| attributes);
                    entries.push(key.key, numbering.place(first), attributes);
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Makes a run visible.
pub(crate) fn publish(run: &RunContext, step: &Publish) -> Result<()> {
    let output = run.output()?;
    let pipeline = &run.plan.pipeline;
    let number = step.reserved.number;
    let added = Added::new(run, step)?;
    // What other workers have kept, maybe of this run: one of them may have published it, and its answer was lost.
    let brought = if run.shared().is_some() { bring_committed(output, pipeline, run.state())? } else { None };
    let mut memory = read_files(run.state(), &pipeline.name, brought.unwrap_or(number - 1))?;
    let files = run.plan.files.iter().chain(&run.plan.aside);
    memory.extend(files.map(|file| (file.name.clone(), file.clone())));
    // Looked at before the output is held: a run that is published has to come to its end, whoever has the output now.
    if is_published(run, &added, &memory, output.manifest()?.as_ref())? {
        return Ok(());
    }
    let held = run.held_output()?;
    held.confirm()?;
    let current = output.versioned_manifest()?;
    // Another worker may have published this very run in between, and what is seen now is what will be replaced: added to
    // that, the run would be there twice.
    if is_published(run, &added, &memory, current.as_ref().map(|(manifest, _)| manifest))? {
        return Ok(());
    }
    let (manifest, seen) = match current {
        Some((manifest, version)) => (manifest, Some(version)),
        None => (Manifest::new(&pipeline.name, &run.layout), None),
    };
    if manifest.pipeline != pipeline.name {
        return Err(IngestError::output(format!("{output} now holds the output of pipeline '{}'", manifest.pipeline))
            .help("give this pipeline an `output.path` of its own"));
    }
    if let Some(shared) = run.shared() {
        run.plan.adopted.iter().try_for_each(|adopted| bring_adopted(run, shared, adopted.table))?;
        for (kind, all) in [(SegmentKind::Keys, &step.segments), (SegmentKind::Groups, &step.groups)] {
            for (table, segments) in (0..).zip(all) {
                let block = &step.reserved.tables[table as usize];
                let before = if kind == SegmentKind::Keys { &block.segments } else { &block.groups };
                let new = segments.iter().filter(|name| !before.contains(name));
                new.into_iter().try_for_each(|name| bring_kept(run, shared, kind, table, name))?;
            }
        }
    }
    // What may still fail for want of space comes first; none of it is looked at before the manifest is in place.
    write_files(run.state(), &pipeline.name, number, &memory)?;
    keep_ledger(run, &step.reserved)?;
    keep_facts(run, &held, committed(run, &step.reserved, &step.segments, &step.groups))?;
    place_all(run, &held, &step.reserved, &step.staged)?;
    match held.put_manifest(&added.to(manifest)?, seen.as_ref())? {
        Put::Done => Ok(()),
        // An answer may have been lost, and the request made again: then the manifest that is there is this one.
        Put::Refused if is_published(run, &added, &memory, output.manifest()?.as_ref())? => Ok(()),
        Put::Refused => Err(moved_on(run, number)?),
    }
}

/// Brings the logs of Delta Lake up to what is published, once a run is. Not a part of publishing: what is published has
/// to be committed whether that can be done or not.
pub(crate) fn follow_manifest(run: &RunContext) -> Result<()> {
    let held = run.held_output()?;
    held.confirm()?;
    let manifest = held.output().published()?;
    follow(&held, &manifest).map_err(|e| IngestError {
        message: format!("run {} is published, but not yet in all Delta logs: {}", manifest.number(), e.message),
        help: Some("run again: that brings the logs up to what is published".to_owned()),
        ..e
    })
}

/// The same where there is nothing to publish: the last run may have died before it came to that, or the pipeline not
/// have asked for Delta then.
pub(crate) fn catch_up(project: &Project, run: &str, owner: &str) -> Result<()> {
    let (output, pipeline) = (project.output()?, project.pipeline());
    let Some(manifest) = output.manifest()?.filter(|manifest| manifest.pipeline == pipeline.name) else {
        return Ok(());
    };
    if !is_behind(&output, &manifest)? {
        return Ok(());
    }
    let held = Held::take(&output, owner, run, None)?;
    let followed = output.published().and_then(|manifest| follow(&held, &manifest));
    // What cannot be given back runs out by itself.
    let _ = held.give_back();
    followed
}

/// Whether the run is in this manifest already; an error if another machine has published one in its place.
fn is_published(run: &RunContext, added: &Added, memory: &FileMemory, manifest: Option<&Manifest>) -> Result<bool> {
    let output = run.output()?;
    let number = added.run.number;
    let Some(manifest) = manifest else { return Ok(false) };
    if manifest.number() < number {
        return Ok(false);
    }
    // This run remembers its files before it publishes; the same bytes without that are another's who read the same.
    let remembers = || read_files(run.state(), &run.plan.pipeline.name, number).is_ok_and(|kept| kept == *memory);
    let is_ours = match read_facts(output, number)? {
        // Of several workers, the one that published it need not be this one.
        Some(facts) => {
            (&facts.owner, &facts.run) == (&run.plan.owner, &run.plan.run) && (run.shared().is_some() || remembers())
        }
        // The facts of a number that others have gone on from are gone; then what was published has to tell.
        None => remembers(),
    };
    if is_ours && added.is_in(manifest) { Ok(true) } else { Err(moved_on(run, number)?) }
}

fn moved_on(run: &RunContext, number: u64) -> Result<IngestError> {
    let output = run.output()?;
    Ok(IngestError::output(format!(
        "{output} has moved on: another machine, or another state folder, has published run {number} there"
    ))
    .help("nothing of this run was published; `seriatim recover` brings this state folder up to the output, then run again"))
}

fn place_all(run: &RunContext, held: &Held, reserved: &Reserved, staged: &[Staged]) -> Result<()> {
    let name = |file| Ok((staged_name(run, reserved, file)?, published_name(run, reserved, file), file));
    let files: Vec<(String, String, &Staged)> = staged.iter().map(name).collect::<Result<_>>()?;
    held.place(&files)
}

/// The sequences as they are once the run has committed.
fn committed(run: &RunContext, reserved: &Reserved, segments: &[Vec<String>], groups: &[Vec<String>]) -> Committed {
    let pipeline = &run.plan.pipeline;
    let tables = pipeline.tables.iter().zip(&reserved.tables).zip(segments).enumerate();
    let tables = tables.map(|(index, ((table, block), segments))| {
        let outside = crate::ids::outside(pipeline, table, block);
        let last = reserved.holder.as_ref().filter(|_| outside.is_some()).map(|run| Range {
            run: run.clone(),
            first: block.first,
            count: block.count,
        });
        CommittedTable {
            table: table.name.clone(),
            next: block.first + block.count,
            segments: segments.clone(),
            others: block.others,
            source: crate::ids::source(pipeline, table).filter(|_| block.first + block.count > 0),
            last,
            groups: groups.get(index).cloned().unwrap_or_default(),
            adopted: block.adopted,
        }
    });
    Committed {
        number: reserved.number,
        output: pipeline.output.path.clone(),
        layout: run.layout.signatures(),
        source: run.plan.drift.types.clone(),
        tables: tables.collect(),
    }
}

/// Keeps the copy of the entities after they have committed, and removes what no longer counts.
pub(crate) fn keep_committed(
    run: &RunContext,
    reserved: &Reserved,
    segments: &[Vec<String>],
    groups: &[Vec<String>],
) -> Result<()> {
    write_committed(run.state(), &run.plan.pipeline.name, &committed(run, reserved, segments, groups))?;
    for (kind, all) in [(SegmentKind::Keys, segments), (SegmentKind::Groups, groups)] {
        for (table, kept) in (0..).zip(all) {
            let block = &reserved.tables[table as usize];
            let before = if kind == SegmentKind::Keys { &block.segments } else { &block.groups };
            for segment in before.iter().filter(|s| !kept.contains(s)) {
                let _ = fs::remove_file(run.segment_folder(kind, table).join(segment));
            }
        }
    }
    let held = run.held_output()?;
    held.confirm()?;
    clear_staging(run, &held)?;
    prune_facts(&held)
}

/// What a plan goes on from.
pub(crate) fn known(state: &Path, pipeline: &str) -> Result<Known> {
    let committed = read_committed(state, pipeline)?;
    Ok(Known::new(read_files(state, pipeline, committed.number)?, &committed))
}
