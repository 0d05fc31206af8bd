//! What a run leaves in the output that is not published: staged files, files of a publication that did not come to its
//! end, a manifest on its way. Must never remove anything that a reader may have heard of.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use seriatim_pipeline::model::Pipeline;

use crate::committed::read_committed;
use crate::context::RunContext;
use crate::error::{ErrorKind, IngestError, Result};
use crate::facts::{prune_facts, read_facts};
use crate::manifest::Manifest;
use crate::output::{Held, Output, STAGING};
use crate::write::{QUARANTINE, staging_folder};

/// Removes what a run that failed has left in the output: staged files, and files of a publication that did not come to
/// its end. Only who holds the sequences may call this: the files could be another run's otherwise. An error unless it is
/// sure that nothing of the run is published, and that nothing will be.
pub(crate) fn withdraw(run: &RunContext) -> Result<()> {
    let taken = run.held_output().and_then(|held| held.confirm().map(|()| held));
    let held = match taken {
        // Whoever has the lease now has fenced the manifest, and removes what this run has left.
        Err(lost) if lost.kind == ErrorKind::Output && !may_have_moved_on(run)? => return Ok(()),
        taken => taken?,
    };
    end_publication(run, &held)?;
    // The staging folder goes last: it is the sign by which the next run finds what could not be removed.
    if withdraw_unpublished(&held, &run.plan.pipeline).and_then(|()| clear_staging(run, &held)).is_ok() {
        tidy_up(&held)?;
    }
    Ok(())
}

/// Sees to it that a run which failed while it was being published does not become visible later: its manifest may still
/// be on its way, and would name files that are gone.
fn end_publication(run: &RunContext, held: &Held) -> Result<()> {
    let output = held.output();
    let next = output.manifest()?.map_or(0, |manifest| manifest.number()) + 1;
    // Facts come before the manifest; a run that has kept none has not sent one.
    if is_of(run, output, next)? {
        held.fence(Some(&Manifest::new(&run.plan.pipeline.name, &run.layout)))?;
    }
    let number = output.manifest()?.map_or(0, |manifest| manifest.number());
    if number == 0 || !is_of(run, output, number)? {
        return Ok(());
    }
    Err(IngestError::output(format!("{output} has run {number} although its answer was lost: it is published"))
        .help("`seriatim recover` brings the state folder up to the output; then run again"))
}

/// Whether a run, perhaps this one, has been published since this one was admitted. Of a run that several machines carry
/// out, none of them knows for sure.
fn may_have_moved_on(run: &RunContext) -> Result<bool> {
    let published = run.output()?.manifest()?.map_or(0, |manifest| manifest.number());
    Ok(run.shared().is_some() || published > read_committed(run.state(), &run.plan.pipeline.name)?.number)
}

/// Whether the facts of a number are this run's.
fn is_of(run: &RunContext, output: &Output, number: u64) -> Result<bool> {
    let facts = read_facts(output, number)?;
    Ok(facts.is_some_and(|facts| (&facts.owner, &facts.run) == (&run.plan.owner, &run.plan.run)))
}

/// Removes what earlier runs have left that could not tidy up. Who holds the sequences, and the output, is the only one at
/// work here. Without such a sign as a staging folder nothing is removed: a file of that name could be somebody's only
/// copy. `first` is the manifest where there is none yet; `still` is asked when what is there is known: an error if somebody
/// else is at work after all.
pub(crate) fn withdraw_stale(
    held: &Held,
    pipeline: &Pipeline,
    first: Option<&Manifest>,
    still: impl Fn() -> Result<()>,
) -> Result<()> {
    let prefix = format!("{}-", pipeline.name);
    let mut left = held.output().children(STAGING)?;
    left.retain(|name| is_staging(name, &prefix));
    if left.is_empty() {
        return Ok(());
    }
    still()?;
    held.confirm()?;
    // A run that could not tidy up may have sent a manifest that names what is removed here.
    held.fence(first)?;
    withdraw_unpublished(held, pipeline)?;
    left.iter().try_for_each(|name| held.remove_folder(&format!("{STAGING}/{name}")))?;
    held.tidy(STAGING);
    tidy_up(held)
}

fn withdraw_unpublished(held: &Held, pipeline: &Pipeline) -> Result<()> {
    let manifest = held.output().manifest()?;
    let number = manifest.as_ref().map_or(0, Manifest::number);
    let unpublished = format!("part-{:06}-", number + 1);
    let anew = format!("-r{:06}.parquet", number + 1);
    for folder in pipeline.tables.iter().map(|t| t.name.as_str()).chain([QUARANTINE]) {
        let is_of_run = |name: &String| {
            name.ends_with(&anew) || name.rsplit('/').next().is_some_and(|name| name.starts_with(&unpublished))
        };
        let all: Vec<String> = held.output().in_table(folder)?.into_iter().filter(is_of_run).collect();
        held.remove(&all)?;
        // Folders that only this run needed, the innermost first; one that holds something stays.
        let above = |name: &String| Path::new(name).ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>();
        let folders: BTreeSet<PathBuf> = all.iter().flat_map(above).filter(|above| above.starts_with(folder)).collect();
        folders.iter().rev().for_each(|inside| held.tidy(&inside.to_string_lossy()));
        held.tidy(folder);
    }
    prune_facts(held)
}

/// Where nothing is published, nothing is left.
fn tidy_up(held: &Held) -> Result<()> {
    if held.output().manifest()?.is_none() {
        held.tidy("_seriatim");
        held.tidy("");
    }
    Ok(())
}

/// Whether a name is that of a run's staging folder: the run's name, and in a store the id of its state folder.
fn is_staging(name: &str, prefix: &str) -> bool {
    let Some(rest) = name.strip_prefix(prefix) else { return false };
    let (number, owner) = rest.split_once('-').unwrap_or((rest, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits(number) && owner.bytes().all(|b| b.is_ascii_hexdigit())
}

pub(crate) fn clear_staging(run: &RunContext, held: &Held) -> Result<()> {
    held.remove_folder(&staging_folder(run)?)?;
    held.tidy(STAGING);
    Ok(())
}
