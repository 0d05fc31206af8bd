//! Which published file has the row of a thing: its place is between the first and the last one of the file, and its
//! partition is the file's. Must never guess: a place that no file has is an error for whoever asks.

use std::collections::HashMap;

use crate::manifest::ManifestTable;
use crate::number::ordinal_of;
use crate::partition::Values;

/// Steps that the published files of a table are shared out to, at most: enough for many workers, few enough to journal.
const MOST_BUCKETS: usize = 64;

/// How many steps so many files are shared out to.
pub(crate) fn buckets(files: usize) -> u32 {
    files.min(MOST_BUCKETS) as u32
}

/// The step that a file falls to.
pub(crate) fn bucket_of(file: u32, files: usize) -> u32 {
    (u64::from(file) * u64::from(buckets(files)) / files.max(1) as u64) as u32
}

/// The published files of a table by what is in them.
#[derive(Debug)]
pub(crate) struct FileIndex<'m> {
    /// For each partition, or for all: the first and the last place of each file, ascending, and the file.
    files: HashMap<&'m Values, Vec<(u64, u64, u32)>>,
}

impl<'m> FileIndex<'m> {
    pub(crate) fn new(table: &'m ManifestTable) -> Self {
        let mut files: HashMap<&Values, Vec<(u64, u64, u32)>> = HashMap::new();
        for (index, file) in (0..).zip(&table.files) {
            let place = |value| table.id.as_ref().and_then(|id| ordinal_of(id, value));
            if let Some((first, last)) = file.ids.and_then(|(first, last)| place(first).zip(place(last))) {
                files.entry(&file.partition).or_default().push((first, last, index));
            }
        }
        for files in files.values_mut() {
            files.sort_unstable();
        }
        Self { files }
    }

    /// The file that has a place.
    pub(crate) fn file_of(&self, partition: &Values, place: u64) -> Option<u32> {
        let files = self.files.get(partition)?;
        let after = files.partition_point(|&(first, ..)| first <= place);
        let &(_, last, file) = files.get(after.checked_sub(1)?)?;
        (place <= last).then_some(file)
    }
}

#[cfg(test)]
mod tests {
    use seriatim_pipeline::model::Id;

    use super::*;
    use crate::manifest::ManifestFile;

    #[test]
    fn a_place_is_in_the_one_file_that_has_it() {
        let file = |ids: (i64, i64), partition: &str| ManifestFile {
            ids: Some(ids),
            partition: vec![Some(partition.to_owned())],
            ..ManifestFile::default()
        };
        let files = vec![file((10, 4), "a"), file((8, 6), "b"), file((2, -20), "a")];
        let table =
            ManifestTable { id: Some(Id { start: 10, step: -2, ..Id::new("id") }), files, ..ManifestTable::default() };
        let index = FileIndex::new(&table);
        let of = |partition: &str, place| index.file_of(&vec![Some(partition.to_owned())], place);
        assert_eq!([of("a", 0), of("a", 3), of("a", 4), of("a", 15)], [Some(0), Some(0), Some(2), Some(2)]);
        assert_eq!([of("b", 0), of("b", 1), of("b", 2), of("b", 3), of("c", 1)], [None, Some(1), Some(1), None, None]);
    }

    #[test]
    fn files_that_follow_each_other_fall_to_one_step() {
        for files in [1_usize, 5, 64, 65, 1000] {
            let found: Vec<u32> = (0..files as u32).map(|file| bucket_of(file, files)).collect();
            assert!(found.is_sorted() && found[0] == 0 && found.last() == Some(&(buckets(files) - 1)), "{found:?}");
        }
    }
}
