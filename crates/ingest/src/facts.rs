//! A pipeline's durable facts beside its output: what the state folder must hold so that IDs can go on (key maps, the
//! memory of files, ledgers, where each sequence is), kept under `_seriatim/state` by the number of the run that is
//! about to be published. Which number counts is the manifest's word, so facts of a run that is never published are
//! harmless. Must never be relied on while the state folder is there.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::committed::{Committed, files_name, ledger_name};
use crate::context::{RunContext, SegmentKind, pipeline_folder};
use crate::error::{IngestError, Result};
use crate::output::{FACTS, Held, LOCK, Output, Put};

/// The version of the form of facts.
const FORMAT: u32 = 1;

/// The facts of one number: an index of the files, with what is small.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    format: u32,
    /// The id of the state folder whose run this was.
    pub(crate) owner: String,
    /// The run, as that state folder names it.
    pub(crate) run: String,
    /// The sequences as they are once the run has committed.
    pub(crate) committed: Committed,
    pub(crate) files: Vec<Fact>,
}

/// A file of the state folder that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fact {
    /// Relative to the pipeline's folder in the state folder.
    pub(crate) file: String,
    /// Its name among the facts. It never ends in `.parquet`: whoever looks for tables must not find key maps.
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

fn index_name(number: u64) -> String {
    format!("{number:06}.json")
}

fn path_of(name: &str) -> String {
    format!("{FACTS}/{name}")
}

impl Fact {
    /// Where it is in the output.
    pub(crate) fn path(&self) -> String {
        path_of(&self.name)
    }
}

/// The facts of a number; `None` if there are none.
pub(crate) fn read_facts(output: &Output, number: u64) -> Result<Option<Facts>> {
    let name = path_of(&index_name(number));
    let Some((bytes, _)) = output.read(&name)? else { return Ok(None) };
    let facts: Facts = serde_json::from_slice(&bytes).map_err(|e| {
        IngestError::output(format!("{} is damaged: {e}", output.place_of(&name)))
            .help("bring it back from a backup, or see which program changed it")
    })?;
    if facts.format != FORMAT {
        return Err(IngestError::output(format!(
            "{} has form {}; this program reads {FORMAT}",
            output.place_of(&name),
            facts.format
        ))
        .help("use the version of the program that wrote it, or a newer one"));
    }
    if !facts.are_of(number) {
        return Err(IngestError::output(format!("{} is damaged: it names what no facts have", output.place_of(&name)))
            .help("bring it back from a backup, or see which program changed it"));
    }
    Ok(Some(facts))
}

impl Facts {
    /// Whether these are facts of this number, which name nothing but what facts have. Others may write to an output, and
    /// files are brought into the state folder under the names that stand here.
    fn are_of(&self, number: u64) -> bool {
        let plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(['/', '\\', ':', '\0']);
        let tables = &self.committed.tables;
        if self.committed.number != number
            || !tables.iter().all(|table| {
                plain(&table.table) && table.segments.iter().chain(&table.groups).all(|segment| plain(segment))
            })
        {
            return false;
        }
        let needed: BTreeSet<String> = needed(&self.committed).into_iter().collect();
        self.files.iter().all(|fact| plain(&fact.name) && needed.contains(&fact.file))
    }
}

/// Keeps the facts of a run that is about to be published. Files that the facts before it have are kept already: they
/// are never changed, and those of an earlier number were published.
pub(crate) fn keep_facts(run: &RunContext, held: &Held, committed: Committed) -> Result<()> {
    let output = held.output();
    let number = committed.number;
    let before = if number > 1 { read_facts(output, number - 1)? } else { None };
    let before = before.map(|facts| facts.files).unwrap_or_default();
    let folder = pipeline_folder(run.state(), &run.plan.pipeline.name);
    let mut files = Vec::new();
    for file in needed(&committed) {
        if let Some(kept) = before.iter().find(|kept| kept.file == file) {
            files.push(kept.clone());
            continue;
        }
        let path = folder.join(&file);
        let bytes = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            // A ledger is for people; one that somebody has cleared away stays away.
            Err(_) if file.starts_with("ledger/") => continue,
            Err(e) => return Err(IngestError::io("look at", &path, &e)),
        };
        let fact = Fact { name: fact_name(run, output, &file), file, bytes };
        held.keep(&path, &fact.path())?;
        files.push(fact);
    }
    let (owner, name) = (run.plan.owner.clone(), run.plan.run.clone());
    let facts = Facts { format: FORMAT, owner, run: name, committed, files };
    let index = path_of(&index_name(number));
    // A second attempt of the same run finds its own.
    if held.create(&index, &facts)? == Put::Refused && read_facts(output, number)?.as_ref() != Some(&facts) {
        return Err(IngestError::output(format!("{} is of another machine's run", output.place_of(&index)))
            .help("another machine is at work on this output: see that only one is, then run again"));
    }
    Ok(())
}

/// What a file of the state folder is called among the facts. In a store the name is the run's own: a machine that does
/// not know yet that it has lost the output cannot write over what another one keeps there.
fn fact_name(run: &RunContext, output: &Output, file: &str) -> String {
    let flat = file.replace('/', ".");
    match output {
        Output::Folder(_) => format!("{flat}.kept"),
        Output::Store(_) => format!("{flat}.{}.kept", run.plan.own_name()),
    }
}

/// The files that IDs need to go on, relative to the pipeline's folder in the state folder.
fn needed(committed: &Committed) -> Vec<String> {
    let number = committed.number;
    let mut files = vec![files_name(number)];
    files.extend((1..=number).map(ledger_name));
    for table in &committed.tables {
        files.extend(table.segments.iter().map(|segment| SegmentKind::Keys.file(&table.table, segment)));
        files.extend(table.groups.iter().map(|segment| SegmentKind::Groups.file(&table.table, segment)));
    }
    files
}

/// Removes facts that do not count: those of numbers other than the manifest's, whichever run asks. One that was published
/// long ago and comes to its end only now must not take away what others have kept since.
pub(crate) fn prune_facts(held: &Held) -> Result<()> {
    let output = held.output();
    let number = output.manifest()?.map_or(0, |manifest| manifest.number());
    let mut kept = BTreeSet::new();
    if number > 0 {
        // Published by a version that kept none: what is here then says nothing, and is left.
        let Some(facts) = read_facts(output, number)? else { return Ok(()) };
        kept.extend(facts.files.into_iter().map(|file| file.name));
        kept.insert(index_name(number));
    }
    let all = output.children(FACTS)?.into_iter().filter(|name| name != LOCK);
    let gone: Vec<String> = all.filter(|name| !kept.contains(name)).map(|name| path_of(&name)).collect();
    held.remove(&gone)?;
    if kept.is_empty() {
        held.tidy(FACTS);
    }
    Ok(())
}
