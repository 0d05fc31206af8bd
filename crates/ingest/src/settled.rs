//! A pipeline whose IDs begin after what exists, once it is known where that is. The first run looks, and what it finds is
//! published with its tables; from then on that is the answer, whatever becomes of the files. Everything behind the plan
//! sees a pipeline that says its numbers itself. Must never look again once a run is published.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use seriatim_pipeline::model::{Adopt, Id, Table};

use crate::committed::Committed;
use crate::error::{IngestError, Result};
use crate::existing::{Existing, Wanted};
use crate::files::scratch;
use crate::layout::TableSignature;
use crate::number::{id_of, ordinal_of, out_of_range};
use crate::project::Project;
use crate::source::SourceFile;

/// A project whose pipeline says where IDs begin.
#[derive(Debug, Clone)]
pub(crate) struct Settled {
    pub(crate) project: Project,
    /// The tables that exist and are taken over by the first run.
    pub(crate) adopted: Vec<Adopted>,
}

impl Settled {
    /// For who needs no IDs.
    pub(crate) fn without_looking(project: &Project) -> Self {
        Self { project: project.clone(), adopted: Vec::new() }
    }
}

/// A table that exists, as the plan of a first run has found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Adopted {
    /// The table's place in the pipeline.
    pub(crate) table: u32,
    pub(crate) files: Vec<SourceFile>,
    /// The place of the first new ID: the existing ones are before it.
    pub(crate) first: u64,
}

/// Whether it depends on files where a table's IDs begin.
fn is_open(table: &Table) -> bool {
    table.adopt.is_some() || table.id.as_ref().is_some_and(|id| id.after.is_some())
}

/// Finds out where IDs begin: in what is published, or else in the files that exist.
pub(crate) fn settle(project: &Project, committed: &Committed) -> Result<Settled> {
    let mut settled = Settled::without_looking(project);
    for (index, table) in (0..).zip(&project.pipeline().tables).filter(|(_, table)| is_open(table)) {
        let Some(id) = &table.id else { continue };
        let start = if committed.number > 0 {
            refuse_late_adoption(table, committed)?;
            published_start(&committed.layout, &table.name).unwrap_or(id.start)
        } else if let Some(adopt) = &table.adopt {
            let (start, adopted) = look_at_table(project, index, table, id, adopt)?;
            settled.adopted.push(adopted);
            start
        } else {
            first_after(project, table, id)?.unwrap_or(id.start)
        };
        settled.project.set_start(index as usize, start);
    }
    Ok(settled)
}

/// IDs that are given stay as they are, so a table can be taken over by the first run only.
fn refuse_late_adoption(table: &Table, committed: &Committed) -> Result<()> {
    let known = committed.tables.iter().find(|known| known.table == table.name);
    if table.adopt.is_none() || known.is_none_or(|known| known.adopted.is_some()) {
        return Ok(());
    }
    Err(IngestError::pipeline(format!(
        "table '{}': `adopt` counts for the first run only, and {} are published",
        table.name,
        if committed.number == 1 { "one is".to_owned() } else { committed.number.to_string() }
    ))
    .help("remove `adopt`, or start anew with another `state` and `output.path`"))
}

/// Where the IDs of a published table begin.
fn published_start(layout: &[TableSignature], table: &str) -> Option<i64> {
    layout.iter().find(|signature| signature.table == table)?.start
}

/// Whether a plan was made before the first run was published, and says something else: then it is to be made anew.
pub(crate) fn is_outdated(tables: &[Table], adopted: &[Adopted], published: &[TableSignature]) -> bool {
    let differs = |table: &&Table| {
        let start = published_start(published, &table.name);
        start.is_some() && start != table.id.as_ref().map(|id| id.start)
    };
    !published.is_empty() && (!adopted.is_empty() || tables.iter().filter(|t| is_open(t)).any(|table| differs(&table)))
}

/// A folder for what is fetched of objects; it is made when it is needed.
pub(crate) fn look_folder() -> PathBuf {
    scratch("existing")
}

/// The ID after the last one of the files that the pipeline names for it; `None` if it names none, or they have none.
fn first_after(project: &Project, table: &Table, id: &Id) -> Result<Option<i64>> {
    let Some(after) = &id.after else { return Ok(None) };
    let setting = format!("tables.{}.id.start.after", table.name);
    let wanted = Wanted { setting: &setting, files: &after.files, columns: &[&after.column] };
    let existing = Existing::find(project, &wanted, look_folder())?;
    let Some(ends) = existing.extremes(&after.column)? else { return Ok(None) };
    let last = last_of(id, ends);
    Ok(Some(last.checked_add(id.step).ok_or_else(|| out_of_range(id))?))
}

/// Which of the smallest and the largest ID came last.
fn last_of(id: &Id, (low, high): (i64, i64)) -> i64 {
    if id.step > 0 { high } else { low }
}

/// Where the IDs of a table begin that exists already: with its own first one, so that each of its IDs has a place. The new
/// ones begin where the pipeline says, or after its last one.
fn look_at_table(project: &Project, index: u32, table: &Table, id: &Id, adopt: &Adopt) -> Result<(i64, Adopted)> {
    let setting = format!("tables.{}.adopt", table.name);
    let columns = adopt_columns(adopt);
    let wanted = Wanted { setting: &setting, files: &adopt.files, columns: &columns };
    let existing = Existing::find(project, &wanted, look_folder())?;
    let files = existing.files().to_vec();
    let asked = match adopt.start {
        Some(start) => Some(start),
        None => first_after(project, table, id)?,
    };
    let Some((low, high)) = existing.extremes(&adopt.id)? else {
        return Ok((asked.unwrap_or(id.start), Adopted { table: index, files, first: 0 }));
    };
    let (base, last) = if id.step > 0 { (low, high) } else { (high, low) };
    let shape = Id { start: base, ..id.clone() };
    let place = |value: i64| {
        ordinal_of(&shape, value).ok_or_else(|| {
            IngestError::pipeline(format!(
                "table '{}': the step is {}, and from {base} it never comes to {value}",
                table.name, id.step
            ))
            .help(format!("`{setting}` has IDs from {low} to {high}: give `id` a `step` that they follow, such as 1"))
        })
    };
    let after = place(last)? + 1;
    let first = match asked {
        None => after,
        Some(start) if (start > last) == (id.step > 0) && start != last => place(start)?,
        Some(start) => {
            return Err(IngestError::pipeline(format!(
                "table '{}': new IDs would begin at {start}, and the existing ones go from {base} to {last}",
                table.name
            ))
            .help("leave `start` out: new IDs then come after the last existing one"));
        }
    };
    id_of(&shape, first).ok_or_else(|| out_of_range(id))?;
    Ok((base, Adopted { table: index, files, first }))
}

/// The columns of a table that exists: its key's, and its ID.
pub(crate) fn adopt_columns(adopt: &Adopt) -> Vec<&str> {
    adopt.key.iter().chain([&adopt.id]).map(String::as_str).collect()
}
