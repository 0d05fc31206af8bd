//! Looking without touching: `check` holds the pipeline against the real schema, `plan` computes what a run would do.
//! Both read committed state from its copy in the state folder; neither may write anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use seriatim_pipeline::model::{OnBadFile, Table};

use crate::adopt::adopt;
use crate::checks::{self, CheckFacts};
use crate::committed::{Committed, read_committed, read_files};
use crate::context::RunContext;
use crate::drift::Known;
use crate::error::{IngestError, Result};
use crate::files::scratch;
use crate::layout::{TableLayout, refuse_layout_change};
use crate::number::id_of;
use crate::plan::{FileMemory, Plan, Purpose, in_parallel, make_plan};
use crate::progress::Progress;
use crate::project::Project;
use crate::publish::check_output;
use crate::record::runs;
use crate::report::{
    AsideFile, CheckReport, CheckTable, FoundStart, IdRange, LookupFile, PlanFile, PlanReport, RunReport, RunStatus,
    TableReport,
};
use crate::runner::RunnerOptions;
use crate::settled::{Settled, look_folder, settle};
use crate::sound::{self, find_bad};
use crate::source::SourceFile;

/// Validates a pipeline against the real schema of its files, whether they were ingested or not.
pub fn check(project: &Project) -> Result<CheckReport> {
    let cut = RunnerOptions::default();
    let pipeline = project.pipeline();
    let committed = read_committed(&project.state(), &pipeline.name)?;
    let settled = settle(project, &committed)?;
    let known = Known::new(FileMemory::new(), &committed);
    let (plan, bound) = make_plan(&settled, "check", &known, cut.cut(), cut.workers, Purpose::Look, &[])?;
    let bound = bound.ok_or_else(|| IngestError::input("there is no file to check the pipeline against"))?;
    refuse_layout_change(&committed.layout, &bound.layout, |column| plan.brings(&bound.records, column))?;
    check_settled_output(project, &committed)?;
    let mut used: BTreeSet<String> = bound.records.source_columns(&bound.layout.used_columns()).into_iter().collect();
    used.extend(bound.records.filter_columns());
    let source = bound.records.source_schema();
    let unused = source.fields().iter().map(|f| f.name()).filter(|n| !used.contains(*n));
    Ok(CheckReport {
        pipeline: pipeline.name.clone(),
        files: plan.files.len() as u64,
        records: plan.files.iter().map(|f| f.rows).sum(),
        aside: AsideFile::of(&plan.aside),
        unused_columns: unused.cloned().collect(),
        differences: plan.drift.differences,
        more_differences: plan.drift.more,
        tables: bound
            .layout
            .signatures()
            .into_iter()
            .map(|s| CheckTable {
                table: s.table,
                from: s.from,
                columns: s.columns.into_iter().map(|(role, name, kind)| (name, kind, role)).collect(),
            })
            .collect(),
    })
}

/// The pipeline's run that has begun and not ended, if there is one.
fn interrupted_run(project: &Project) -> Result<Option<String>> {
    let unfinished = |status| matches!(status, RunStatus::Running | RunStatus::Interrupted);
    let mine = |r: &RunReport| r.pipeline == project.pipeline().name && unfinished(r.status);
    Ok(runs(&project.state())?.into_iter().find(mine).map(|r| r.run))
}

/// The output must be as the last run left it, unless a run is under way: one that was killed while it published has
/// left the output between two states, and is taken up first.
fn check_settled_output(project: &Project, committed: &Committed) -> Result<()> {
    if interrupted_run(project)?.is_some() {
        return Ok(());
    }
    check_output(&project.output()?, project.pipeline(), committed.number)
}

/// The plan that a run would come to, and the run if there is a file to read: without the files that cannot be read,
/// where such files are set aside.
fn sound_plan(settled: &Settled, known: &Known, options: &RunnerOptions) -> Result<(Plan, Option<RunContext>)> {
    let project = &settled.project;
    let mut aside = Vec::new();
    loop {
        let cut = options.cut();
        let (plan, bound) = make_plan(settled, "plan", known, cut, options.workers, Purpose::Look, &aside)?;
        let Some(bound) = bound else { return Ok((plan, None)) };
        // Nothing is spilled: a plan writes nothing, also not aside. What it fetches of objects is nobody's.
        let folder = scratch("plan");
        let progress = Arc::new(Progress::default());
        let run = RunContext::new(plan.clone(), bound, &project.state(), u64::MAX, progress).for_a_look(folder);
        let run = if plan.adopted.is_empty() { run } else { run.with_key_maps(look_folder()) };
        if project.pipeline().source.on_bad_file == OnBadFile::Fail {
            return Ok((plan, Some(run)));
        }
        let chunks: Vec<u32> = (0..plan.chunks.len() as u32).collect();
        let bad = in_parallel(options.workers, &chunks, |&chunk| find_bad(&run, chunk..chunk + 1))?;
        if bad.iter().all(Vec::is_empty) {
            return Ok((plan, Some(run)));
        }
        sound::add(&mut aside, bad.into_iter().flatten());
    }
}

/// Computes what a run would do: new files, rows, new keys, exact IDs. Scans all new files; writes nothing.
pub fn plan(project: &Project, options: &RunnerOptions) -> Result<PlanReport> {
    let pipeline = project.pipeline();
    let state = project.state();
    let committed = read_committed(&state, &pipeline.name)?;
    let known = Known::new(read_files(&state, &pipeline.name, committed.number)?, &committed);
    check_settled_output(project, &committed)?;
    let settled = settle(project, &committed)?;
    let (plan, run) = sound_plan(&settled, &known, options)?;
    let mut report = PlanReport {
        pipeline: pipeline.name.clone(),
        interrupted: interrupted_run(project)?,
        files: plan.files.iter().map(|f| PlanFile { file: f.name.clone(), rows: f.rows, bytes: f.bytes }).collect(),
        lookups: lookup_files(&plan),
        files_known: plan.files_known,
        records: plan.files.iter().map(|f| f.rows).sum(),
        filtered: 0,
        quarantined: 0,
        checks: Vec::new(),
        refused: None,
        aside: AsideFile::of(&plan.aside),
        aside_known: plan.aside_known,
        differences: plan.drift.differences.clone(),
        more_differences: plan.drift.more,
        chunks: plan.chunks.len() as u64,
        tables: Vec::new(),
        begins: begins(&settled, &committed),
        shared: None,
    };
    let Some(run) = run else { return Ok(report) };
    let outcome = plan_tables(&mut report, &run, &committed, options);
    if !plan.adopted.is_empty() {
        // Keys of tables that would be taken over: this look's alone.
        for adopted in &plan.adopted {
            let _ = std::fs::remove_dir_all(run.keymap_folder(adopted.table));
        }
        let _ = run.keymap_folder(0).parent().map(std::fs::remove_dir);
    }
    outcome.map(|()| report)
}

/// The files of a plan's look-ups.
fn lookup_files(plan: &Plan) -> Vec<LookupFile> {
    let files = plan.lookups.iter().flat_map(|lookup| lookup.files.iter().map(|file| (&lookup.name, file)));
    let file = |(lookup, file): (&String, &SourceFile)| LookupFile {
        lookup: lookup.clone(),
        file: file.name.clone(),
        rows: file.rows,
    };
    files.map(file).collect()
}

/// Where IDs begin that come after what exists, while no run is published.
fn begins(settled: &Settled, committed: &Committed) -> Vec<FoundStart> {
    if committed.number > 0 {
        return Vec::new();
    }
    let begin = |(index, table): (usize, &Table)| {
        let id = table.id.as_ref()?;
        let adopted = settled.adopted.iter().find(|adopted| adopted.table as usize == index);
        let first = id_of(id, adopted.map_or(0, |adopted| adopted.first))?;
        let mut after = table.adopt.iter().map(|adopt| &adopt.files).chain(id.after.iter().map(|after| &after.files));
        let mut files = after.next()?.clone();
        files.extend(after.flatten().cloned());
        Some(FoundStart { table: table.name.clone(), first, after: files })
    };
    settled.project.pipeline().tables.iter().enumerate().filter_map(begin).collect()
}

/// The rows of tables with versions that are later ones of their things.
fn later_versions(run: &RunContext) -> Result<BTreeMap<String, u64>> {
    if !run.layout.tables.iter().any(TableLayout::keeps_versions) {
        return Ok(BTreeMap::new());
    }
    let manifest = run.output()?.manifest()?;
    let tables = manifest.iter().flat_map(|manifest| &manifest.tables);
    Ok(tables.map(|table| (table.table.clone(), table.versions())).collect())
}

/// What a run would do to each table.
fn plan_tables(
    report: &mut PlanReport,
    run: &RunContext,
    committed: &Committed,
    options: &RunnerOptions,
) -> Result<()> {
    let pipeline = &run.plan.pipeline;
    refuse_layout_change(&committed.layout, &run.layout, |column| run.plan.brings(&run.records, column))?;
    let chunks: Vec<u32> = (0..run.plan.chunks.len() as u32).collect();
    let scans = in_parallel(options.workers, &chunks, |&chunk| run.scan(chunk))?;
    report.filtered = scans.iter().map(|s| u64::from(s.filtered)).sum();
    report.quarantined = scans.iter().map(|s| s.quarantine.len() as u64).sum();
    let records: u64 = scans.iter().map(|s| u64::from(s.records)).sum();
    let mut facts = vec![CheckFacts::default(); run.layout.checks.len()];
    for (chunk, scan) in (0..).zip(&scans) {
        run.add_failed(&mut facts, chunk, &scan.failed);
    }
    report.checks = checks::sum(pipeline, std::iter::once(facts.as_slice()));
    report.refused = checks::verdict(pipeline, &report.checks, records + report.quarantined, false).map(|e| e.message);
    let looks = if pipeline.ids.is_entity() { None } else { Some(crate::ids::look(pipeline)) };
    report.shared = looks.as_ref().map(|looks| match looks {
        Ok(_) => "others may take IDs from the same counter: these are exact if nobody does before the run".to_owned(),
        Err(error) => format!("where the IDs begin is not known: {}", error.message),
    });
    let versions = later_versions(run)?;
    for (index, table) in (0..).zip(&run.layout.tables) {
        let before = committed.tables.iter().find(|t| t.table == table.name);
        let look = looks.as_ref().and_then(|looks| looks.as_ref().ok()?.get(index as usize)?.as_ref());
        // Where others have taken some, the counter is further than this pipeline.
        let mut first = before.map_or(0, |t| t.next).max(look.map_or(0, |look| look.next));
        let mut segments = before.map(|t| t.segments.clone()).unwrap_or_default();
        let adopted = run.plan.adopted.iter().find(|adopted| adopted.table == index);
        let adopted = adopted.map(|adopted| adopt(run, adopted)).transpose()?;
        if let Some(adopted) = &adopted {
            (first, segments) = (adopted.first, vec![adopted.segment.clone()]);
        }
        let elements = |list: usize| scans.iter().map(|s| u64::from(s.elements[list])).sum();
        let elements: Option<u64> = table.list.map(elements);
        let (mut new, mut known, mut conflicts) = (elements.unwrap_or(records), 0, 0);
        if table.is_keyed() {
            let shards: Vec<u32> = (0..run.plan.shards).collect();
            let resolved = in_parallel(options.workers, &shards, |&shard| run.resolution(index, shard, &segments))?;
            new = resolved.iter().map(|r| r.new).sum();
            known = resolved.iter().map(|r| r.known).sum();
            conflicts = resolved.iter().map(|r| r.conflicts).sum();
        }
        let is_known =
            look.is_some() || looks.is_none() || pipeline.sequence(&pipeline.tables[index as usize]).is_none();
        let ids = table.id.as_ref().filter(|_| new > 0 && is_known).and_then(|id| {
            let (first, last) = id_of(id, first).zip(id_of(id, first + new - 1))?;
            Some(IdRange { first, last, step: id.step, count: new })
        });
        report.tables.push(TableReport {
            table: table.name.clone(),
            rows: new,
            total_rows: before.map_or(0, |t| t.next - t.others) + new + versions.get(&table.name).copied().unwrap_or(0),
            ids,
            known_keys: known,
            conflicting_keys: table.counts_conflicts.then_some(conflicts),
            adopted_keys: adopted.map_or(0, |adopted| adopted.keys),
            updated_keys: 0,
            rewritten_files: 0,
            null_keys: scans.iter().map(|s| s.tables[index as usize].null_keys).sum(),
            columns: Vec::new(),
            elements,
            files: Vec::new(),
            bytes: 0,
        });
    }
    Ok(())
}
