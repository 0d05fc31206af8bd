//! The IDs of a table that is partitioned: those of a run are strewn over its partitions, so that they are dense is true of
//! all of them together. Each is marked once; what is not marked in the end is missing. Must never take the manifest's
//! word for an ID.

use std::collections::HashMap;

use seriatim_pipeline::model::Id;

use crate::manifest::{ManifestFile, ManifestTable};
use crate::number::{id_of, ordinal_of};
use crate::partition::Values;

/// The IDs that have been seen.
#[derive(Debug)]
pub(super) struct Scattered {
    /// For each run its number, the first place of its block, how many IDs are in it, and how many are in those before.
    runs: Vec<(u64, u64, u64, u64)>,
    /// A bit for each row that the manifest counts.
    seen: Vec<u64>,
    /// The place after the last one of a partition.
    ends: HashMap<Values, u64>,
}

impl Scattered {
    /// Nothing is seen. The problem, if the blocks cannot be those of a sequence: the first begins at the place `begin`,
    /// and the others follow, or leave something out where others take IDs as well.
    pub(super) fn new(table: &ManifestTable, begin: u64, shared: bool) -> (Self, Option<String>) {
        let (mut runs, mut before, mut end, mut problem) = (Vec::new(), 0, begin, None);
        for (run, first, count) in table.blocks() {
            if if shared { first < end } else { first != end } {
                let text = format!("run {run} begins at place {first} where {end} is due");
                problem.get_or_insert(text);
            }
            runs.push((run, first, count, before));
            before += count;
            end = first.saturating_add(count);
        }
        let words = usize::try_from(before.div_ceil(64)).unwrap_or(0);
        (Self { runs, seen: vec![0; words], ends: HashMap::new() }, problem)
    }

    /// Marks the ID of the next row of a file; the problem, if it is not one of those that are due.
    pub(super) fn mark(&mut self, id: &Id, file: &ManifestFile, value: Option<i64>) -> Result<(), String> {
        let shown = value.map_or_else(|| "none".to_owned(), |value| value.to_string());
        let wrong = |what: &str| format!("{}: the {} {shown} {what}", file.path, id.column);
        let place = value.and_then(|value| ordinal_of(id, value)).ok_or_else(|| wrong("is not of the sequence"))?;
        let of_run = self.runs.iter().find(|(run, ..)| *run == file.run);
        let &(_, first, count, before) = of_run.ok_or_else(|| wrong("is of a run that has none"))?;
        let nth = place.checked_sub(first).filter(|nth| *nth < count);
        let bit = before + nth.ok_or_else(|| wrong(&format!("is not among the {count} of run {}", file.run)))?;
        let (word, mask) = ((bit / 64) as usize, 1 << (bit % 64));
        if self.seen[word] & mask != 0 {
            return Err(wrong("is there twice"));
        }
        self.seen[word] |= mask;
        let end = self.ends.entry(file.partition.clone()).or_insert(0);
        if place < *end {
            return Err(wrong("comes after a later one of its partition"));
        }
        *end = place + 1;
        Ok(())
    }

    /// The first ID that no row has.
    pub(super) fn missing(&self, id: &Id) -> Option<i64> {
        let missing = |&(_, first, count, before): &(u64, u64, u64, u64)| {
            let unseen = |nth: &u64| self.seen[((before + nth) / 64) as usize] >> ((before + nth) % 64) & 1 == 0;
            (0..count).find(unseen).map(|nth| first + nth)
        };
        self.runs.iter().find_map(missing).and_then(|place| id_of(id, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> Id {
        Id { start: 10, step: -2, ..Id::new("id") }
    }

    fn file(run: u64, partition: &str, ids: (i64, i64), rows: u64) -> ManifestFile {
        let partition = vec![Some(partition.to_owned())];
        ManifestFile { path: "f".to_owned(), run, rows, ids: Some(ids), partition, ..ManifestFile::default() }
    }

    fn table(files: Vec<ManifestFile>) -> ManifestTable {
        ManifestTable {
            from: None,
            table: "t".to_owned(),
            adopted: None,
            id: Some(id()),
            key: Vec::new(),
            references: Vec::new(),
            columns: Vec::new(),
            partition_by: vec!["p".to_owned()],
            rows: files.iter().map(|file| file.rows).sum(),
            files,
        }
    }

    /// Marks the IDs of files as they are written down; the first problem.
    fn problem(table: &ManifestTable, shared: bool, ids: &[&[i64]]) -> Option<String> {
        let (mut scattered, problem) = Scattered::new(table, 0, shared);
        let mut marks = table.files.iter().zip(ids).flat_map(|(file, ids)| ids.iter().map(move |id| (file, *id)));
        problem
            .or_else(|| marks.find_map(|(file, value)| scattered.mark(&id(), file, Some(value)).err()))
            .or_else(|| scattered.missing(&id()).map(|missing| format!("{missing} is missing")))
    }

    #[test]
    fn g1_g2_ids_over_partitions_are_dense_together() {
        let two = || table(vec![file(1, "a", (10, 6), 2), file(1, "b", (8, 8), 1), file(2, "a", (4, 4), 1)]);
        assert_eq!(problem(&two(), false, &[&[10, 6], &[8], &[4]]), None);
        for (ids, expected) in [
            ([&[10, 6][..], &[6], &[4]], "is there twice"),
            ([&[6, 10], &[8], &[4]], "comes after a later one"),
            ([&[10, 4], &[8], &[4]], "not among the 3 of run 1"),
            ([&[10, 7], &[8], &[4]], "not of the sequence"),
            ([&[10, 6], &[8], &[]], "4 is missing"),
        ] {
            let found = problem(&two(), false, &ids).expect("a problem");
            assert!(found.contains(expected), "{ids:?}: {found}");
        }
    }

    #[test]
    fn g2_only_where_others_take_ids_too_may_a_run_begin_later() {
        let later = table(vec![file(1, "a", (10, 10), 1), file(2, "a", (6, 6), 1)]);
        assert_eq!(problem(&later, true, &[&[10], &[6]]), None);
        assert!(problem(&later, false, &[&[10], &[6]]).expect("a gap").contains("where 1 is due"));
    }
}
