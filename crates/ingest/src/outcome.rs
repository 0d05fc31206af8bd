//! What a run did, as its orchestration tells it. Everything in it comes from what steps and entities answered; it must
//! never look at anything else.

use serde::{Deserialize, Serialize};

use crate::drift::Difference;
use crate::history::Accepted;
use crate::number::{Reserved, ReservedTable};
use crate::orchestration::{RunInput, TableShards, elements_of_tables};
use crate::report::{AsideFile, CheckOutcome};
use crate::sequence::is_zero;
use crate::steps::{PlanFacts, ScanFacts, ShardFacts};
use crate::write::{Replaces, Staged, name_in_table};

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct RunOutput {
    /// The run's number among the published ones; `None` if there was nothing to do.
    pub(crate) number: Option<u64>,
    pub(crate) files: u64,
    pub(crate) files_known: u64,
    pub(crate) records: u64,
    pub(crate) filtered: u64,
    pub(crate) quarantined: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) checks: Vec<CheckOutcome>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) aside: Vec<AsideFile>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) aside_known: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) differences: Vec<Difference>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) more_differences: u64,
    pub(crate) tables: Vec<TableOutput>,
}

/// What a run did to one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableOutput {
    /// The place in the sequence of the run's first ID.
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) known: u64,
    /// Keys whose records differ, if that is counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) conflicts: u64,
    pub(crate) null_keys: u64,
    /// Places before `first` that are not this pipeline's.
    #[serde(default, skip_serializing_if = "crate::sequence::is_zero")]
    pub(crate) others: u64,
    /// Where the sequence begins, if that was found in files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start: Option<i64>,
    /// Keys that the run has taken over from a table that existed before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) adopted: u64,
    /// What its columns are called, if fields of structs are among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) columns: Vec<String>,
    /// The elements of the list whose elements are the table's rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) elements: Option<u64>,
    /// File names and bytes, in order.
    pub(crate) files: Vec<(String, u64)>,
    /// Known keys that got other attributes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) updated: u64,
    /// Published files that were written anew for them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) rewritten: u64,
    /// Later versions of things that the table had before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) versions: u64,
}

/// What there is to tell of a run that is published.
pub(crate) fn report(
    input: &RunInput,
    plan: &PlanFacts,
    (scans, shards, accepted): (&[ScanFacts], &TableShards, &Accepted),
    reserved: &Reserved,
    staged: &[Staged],
) -> RunOutput {
    let elements = elements_of_tables(&input.pipeline, scans);
    let table_output = |(index, (block, shards)): (usize, (&ReservedTable, &Vec<ShardFacts>))| TableOutput {
        first: block.first,
        count: block.count,
        known: shards.iter().map(|s| s.known).sum(),
        conflicts: shards.iter().map(|s| s.conflicts).sum(),
        others: block.others,
        start: found_start(input, plan, index),
        adopted: if plan.adopted.contains(&(index as u32)) { block.adopted.unwrap_or_default() } else { 0 },
        null_keys: scans.iter().map(|s| s.null_keys[index]).sum(),
        columns: named_columns(input, plan, index),
        elements: elements[index],
        files: staged
            .iter()
            .filter(|s| s.table as usize == index)
            .map(|s| (name_in_table(reserved.number, partition_by(input, plan, index), s), s.bytes))
            .collect(),
        updated: replaced(staged, index).map(|replaces| replaces.updated).sum(),
        rewritten: replaced(staged, index).count() as u64,
        versions: accepted.tables.get(index).map_or(0, |table| table.versions),
    };
    RunOutput {
        number: Some(reserved.number),
        files: plan.files,
        files_known: plan.files_known,
        records: plan.records,
        filtered: scans.iter().map(|s| s.filtered).sum(),
        quarantined: scans.iter().map(|s| s.quarantined).sum(),
        checks: Vec::new(),
        aside: plan.aside.clone(),
        aside_known: plan.aside_known,
        differences: plan.differences.clone(),
        more_differences: plan.more_differences,
        tables: reserved.tables.iter().zip(shards).enumerate().map(table_output).collect(),
    }
}

/// The columns that a table is partitioned by, as it calls them.
fn partition_by<'a>(input: &'a RunInput, plan: &'a PlanFacts, table: usize) -> &'a [String] {
    let named = plan.layout.get(table).map(|signature| &signature.partition_by);
    named.filter(|named| !named.is_empty()).unwrap_or(&input.pipeline.tables[table].partition_by)
}

/// What a table's columns are called, if the pipeline does not say so: fields of structs are called by the ends of their paths.
fn named_columns(input: &RunInput, plan: &PlanFacts, table: usize) -> Vec<String> {
    let Some(signature) = plan.layout.get(table) else { return Vec::new() };
    let names = || signature.columns.iter().map(|(_, name, _)| name);
    let table = &input.pipeline.tables[table];
    let is_said = table.key.iter().chain(&table.columns).all(|column| names().any(|name| name == column));
    if is_said { Vec::new() } else { names().cloned().collect() }
}

/// The published files of a table that others take the place of.
fn replaced(staged: &[Staged], table: usize) -> impl Iterator<Item = &Replaces> {
    staged.iter().filter(move |staged| staged.table as usize == table).filter_map(|staged| staged.replaces.as_ref())
}

/// Where a table's IDs begin, if the pipeline does not say it itself.
fn found_start(input: &RunInput, plan: &PlanFacts, table: usize) -> Option<i64> {
    let settings = &input.pipeline.tables[table];
    let is_found = settings.adopt.is_some() || settings.id.as_ref().is_some_and(|id| id.after.is_some());
    plan.layout.get(table).filter(|_| is_found)?.start
}
