//! What a run adds to the manifest: its own files, those that take the place of published ones, and what it read. Must
//! never name a file that was not staged.

use std::collections::BTreeSet;

use crate::context::RunContext;
use crate::error::{IngestError, Result};
use crate::manifest::{AdoptedPlaces, Manifest, ManifestFile, ManifestRun, TableChanges};
use crate::number::{Reserved, ReservedTable, id_of, out_of_range};
use crate::partition::{MOST_PARTITIONS, too_many};
use crate::report::AsideFile;
use crate::steps::Publish;
use crate::write::{Staged, folder_name, name_in_table, quarantine_index, stem};

/// What a run adds to the manifest.
pub(crate) struct Added {
    tables: Vec<Vec<ManifestFile>>,
    /// Files in the place of published ones: the table, the name of the old one, how many of its keys have changed, and the
    /// new file, as far as it does not have what the old one had.
    replaced: Vec<(usize, String, u64, ManifestFile)>,
    quarantine: Vec<ManifestFile>,
    pub(crate) run: ManifestRun,
    /// What each table begins with, if this is the first run.
    adopted: Vec<Option<AdoptedPlaces>>,
}

impl Added {
    pub(crate) fn new(run: &RunContext, step: &Publish) -> Result<Self> {
        let number = step.reserved.number;
        check_partitions(run, step)?;
        let mut tables = vec![Vec::new(); run.layout.tables.len()];
        let (mut quarantine, mut replaced) = (Vec::new(), Vec::new());
        for staged in &step.staged {
            let mut file = ManifestFile {
                path: published_name(run, &step.reserved, staged),
                run: number,
                rows: staged.rows,
                bytes: staged.bytes,
                xxh3: staged.hash.clone(),
                ids: None,
                partition: staged.partition.clone(),
                ..ManifestFile::default()
            };
            if let Some(replaces) = &staged.replaces {
                file.rewritten = Some(number);
                replaced.push((staged.table as usize, replaces.path.clone(), replaces.updated, file));
                continue;
            }
            if staged.table == quarantine_index(run) {
                quarantine.push(file);
                continue;
            }
            if let Some(id) = &run.table(staged.table).id {
                let last = staged.last.unwrap_or(staged.first + staged.rows - 1);
                let ends = id_of(id, staged.first).zip(id_of(id, last));
                file.ids = Some(ends.ok_or_else(|| out_of_range(id))?);
            }
            tables[staged.table as usize].push(file);
        }
        let run = ManifestRun {
            number,
            files: run.plan.files.len() as u64,
            records: run.plan.files.iter().map(|f| f.rows).sum(),
            filtered: step.filtered,
            quarantined: step.quarantined,
            elements: run
                .layout
                .lists
                .iter()
                .map(|list| list.path.to_string())
                .zip(step.elements.iter().copied())
                .collect(),
            aside: AsideFile::of(&run.plan.aside),
            replayed: run.plan.replayed.clone(),
            changes: changes(run, &replaced),
            accepted: step.reserved.accepted,
        };
        let adopted = |block: &ReservedTable| {
            let keys = block.adopted.filter(|_| number == 1)?;
            Some(AdoptedPlaces { keys, places: block.others })
        };
        let adopted = step.reserved.tables.iter().map(adopted).collect();
        Ok(Self { tables, replaced, quarantine, run, adopted })
    }

    /// The manifest after the run.
    pub(crate) fn to(&self, mut manifest: Manifest) -> Result<Manifest> {
        manifest.quarantine.extend(self.quarantine.iter().cloned());
        for (table, path, _, new) in &self.replaced {
            let table = &mut manifest.tables[*table];
            let old = table.files.iter_mut().find(|file| file.path == *path).ok_or_else(|| {
                IngestError::output(format!("{path} is not published any more"))
                    .help("another machine is at work on this output: see that only one is, then run again")
            })?;
            let ManifestFile { run, ids, .. } = *old;
            let things = Some(old.things()).filter(|things| *things != new.rows);
            table.rows = table.rows + new.rows - old.rows;
            *old = ManifestFile { run, ids, things, ..new.clone() };
        }
        for (table, files) in manifest.tables.iter_mut().zip(&self.tables) {
            table.rows += files.iter().map(|f| f.rows).sum::<u64>();
            table.files.extend(files.iter().cloned());
        }
        for (table, adopted) in manifest.tables.iter_mut().zip(&self.adopted) {
            table.adopted = table.adopted.take().or_else(|| adopted.clone());
        }
        manifest.runs.push(self.run.clone());
        Ok(manifest)
    }

    /// Whether a manifest has exactly this of the run with this number.
    pub(crate) fn is_in(&self, manifest: &Manifest) -> bool {
        let same = |kept: &[ManifestFile], added: &[ManifestFile]| {
            let kept: Vec<&ManifestFile> = kept.iter().filter(|f| f.run == self.run.number).collect();
            let is_same = |(kept, added): (&&ManifestFile, &ManifestFile)| kept.continues(added, self.run.number);
            kept.len() == added.len() && kept.iter().zip(added).all(is_same)
        };
        let replaced = |(table, _, _, new): &(usize, String, u64, ManifestFile)| {
            let is_it = |file: &ManifestFile| {
                let later = file.rewritten.is_some_and(|run| run > self.run.number);
                (file.path == new.path && file.xxh3 == new.xxh3) || (later && stem(&file.path) == stem(&new.path))
            };
            manifest.tables[*table].files.iter().any(is_it)
        };
        manifest.runs.contains(&self.run)
            && manifest.tables.len() == self.tables.len()
            && manifest.tables.iter().zip(&self.tables).all(|(kept, added)| same(&kept.files, added))
            && same(&manifest.quarantine, &self.quarantine)
            && self.replaced.iter().all(replaced)
    }
}

/// What a run changes in each table that has a file in the place of a published one.
fn changes(run: &RunContext, replaced: &[(usize, String, u64, ManifestFile)]) -> Vec<TableChanges> {
    let mut all: Vec<TableChanges> = Vec::new();
    for (table, layout) in run.layout.tables.iter().enumerate() {
        let updated: Vec<u64> =
            replaced.iter().filter(|(of, ..)| *of == table).map(|(_, _, updated, _)| *updated).collect();
        if !updated.is_empty() {
            let (updated, rewritten) = (updated.iter().sum(), updated.len() as u64);
            all.push(TableChanges { table: layout.name.clone(), updated, rewritten });
        }
    }
    all
}

/// Partitions are assembled apart; all of them together must be the table, and not too many.
fn check_partitions(run: &RunContext, step: &Publish) -> Result<()> {
    for (index, layout) in (0..).zip(&run.layout.tables).filter(|(_, layout)| layout.is_partitioned()) {
        let files = || step.staged.iter().filter(|file| file.table == index && file.replaces.is_none());
        let (rows, count) = (files().map(|file| file.rows).sum::<u64>(), step.reserved.tables[index as usize].count);
        if rows != count {
            return Err(IngestError::internal(format!(
                "table '{}': {rows} rows in partitions of {count}",
                layout.name
            )));
        }
        if files().map(|file| &file.partition).collect::<BTreeSet<_>>().len() > MOST_PARTITIONS {
            return Err(too_many(&layout.name, &layout.partition_by));
        }
    }
    Ok(())
}

/// A published file's name in the output.
pub(crate) fn published_name(run: &RunContext, reserved: &Reserved, staged: &Staged) -> String {
    let columns = run.layout.tables.get(staged.table as usize).map_or(&[][..], |table| &table.partition_by);
    format!("{}/{}", folder_name(run, staged.table), name_in_table(reserved.number, columns, staged))
}
