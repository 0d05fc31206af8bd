//! The things in a pipeline's records, chunk by chunk: what a plain program sees that reads a part of the data and asks a
//! counter for the IDs of what it finds there. For comparisons. Must never look at what was ingested, and never write.

use std::collections::HashSet;
use std::sync::Arc;

use crate::committed::read_committed;
use crate::context::RunContext;
use crate::drift::Known;
use crate::error::{IngestError, Result};
use crate::plan::{FileMemory, Purpose, make_plan};
use crate::progress::Progress;
use crate::project::Project;
use crate::runner::RunnerOptions;
use crate::settled::Settled;

/// The records of a pipeline's files, whether they were ingested or not.
#[derive(Debug)]
pub struct Things {
    run: RunContext,
}

/// The things of one table in one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The table's name.
    pub table: String,
    /// The hash of each distinct key; of a table without key a number for each record.
    pub keys: Vec<u64>,
}

impl Things {
    /// Lists the files and cuts them into chunks.
    pub fn open(project: &Project, options: &RunnerOptions) -> Result<Self> {
        let known = Known::new(FileMemory::new(), &read_committed(&project.state(), &project.pipeline().name)?);
        // Which IDs the things have does not matter here.
        let settled = Settled::without_looking(project);
        let (plan, bound) = make_plan(&settled, "things", &known, options.cut(), options.workers, Purpose::Look, &[])?;
        let bound = bound.ok_or_else(|| IngestError::input("there is no file to look into"))?;
        // Nothing is kept of a chunk, so nothing is spilled.
        let run = RunContext::new(plan, bound, &project.state(), u64::MAX, Arc::new(Progress::default()));
        Ok(Self { run })
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> u32 {
        self.run.plan.chunks.len() as u32
    }

    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.run.plan.files.iter().map(|file| file.rows).sum()
    }

    /// The names of the tables that have IDs.
    pub fn tables(&self) -> Vec<String> {
        self.run.layout.tables.iter().filter(|table| table.id.is_some()).map(|table| table.name.clone()).collect()
    }

    /// What is in a chunk, for each table that has IDs.
    pub fn in_chunk(&self, chunk: u32) -> Result<Vec<Found>> {
        let columns = crate::scan::scan_columns(&self.run.layout);
        let things = crate::elements::Things::new(&self.run.layout, self.run.read(chunk, &columns)?.batch)?;
        let mut found = Vec::new();
        for table in self.run.layout.tables.iter().filter(|table| table.id.is_some()) {
            let count = things.count(table.list)?;
            let keys = match &table.codec {
                None => (0..count as u64).map(|row| u64::from(chunk) << 32 | row).collect(),
                Some(codec) => {
                    let keys = codec.encode(&things.columns(table.list, &table.key)?);
                    let mut seen = HashSet::new();
                    let hashes = (0..count).filter_map(|row| keys.get(row).map(crate::keys::KeyRef::hash));
                    hashes.filter(|hash| seen.insert(*hash)).collect()
                }
            };
            found.push(Found { table: table.name.clone(), keys });
        }
        Ok(found)
    }
}
