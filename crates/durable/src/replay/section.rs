//! Critical sections: the rules of who may be called while entities are locked, and the guard that unlocks. Locks are
//! taken in one order everywhere (by entity name, then key), so that two orchestrations cannot wait for each other in
//! a circle. This module must never send a message: the core does, when it is told what to unlock.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::core::Shared;
use super::task::Cell;
use crate::entity::EntityId;
use crate::failure::Failure;

/// One critical section, from the request of its locks to their release.
#[derive(Debug)]
pub(crate) struct Section {
    /// The id of the action that requested the locks.
    pub(crate) action: i32,
    /// The id in the protocol: the recorded one once history has confirmed the request.
    pub(crate) id: String,
    pub(crate) locks: Vec<EntityId>,
    granted: bool,
    busy: BTreeSet<EntityId>,
}

/// The critical sections of one execution: at most one that the code knows of, and those whose request it dropped.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    current: Option<Section>,
    /// Requests that were dropped before they were granted. A lock cannot be given back before it is held, so they
    /// stay here until the grant arrives.
    orphaned: Vec<Section>,
}

fn violation(message: String) -> Failure {
    Failure::non_retriable(Failure::CRITICAL_SECTION, message)
}

impl Sections {
    pub(crate) fn check_lock(&self) -> Result<(), Failure> {
        match &self.current {
            Some(_) => Err(violation(
                "locks are requested inside a critical section: release the section that is open, or request all \
                 locks at once"
                    .to_owned(),
            )),
            None => Ok(()),
        }
    }

    pub(crate) fn check_sub_orchestration(&self, name: &str) -> Result<(), Failure> {
        match &self.current {
            Some(_) => Err(violation(format!(
                "sub-orchestration \"{name}\" is called inside a critical section, where it could wait for a lock that \
                 this orchestration holds: call it before the lock or after the release"
            ))),
            None => Ok(()),
        }
    }

    pub(crate) fn check_signal(&self, target: &EntityId) -> Result<(), Failure> {
        match &self.current {
            Some(section) if section.locks.contains(target) => Err(violation(format!(
                "entity {target} is signaled while this orchestration holds its lock: call it instead"
            ))),
            _ => Ok(()),
        }
    }

    /// Checks a call, and marks the entity as busy until its answer.
    pub(crate) fn check_call(&mut self, target: &EntityId) -> Result<(), Failure> {
        let Some(section) = &mut self.current else {
            return Ok(());
        };
        if !section.locks.contains(target) {
            return Err(violation(format!(
                "entity {target} is called inside a critical section that has not locked it: lock it with the others"
            )));
        }
        if !section.granted {
            return Err(violation(format!(
                "entity {target} is called before its lock was granted: await the lock first"
            )));
        }
        if !section.busy.insert(target.clone()) {
            return Err(violation(format!(
                "entity {target} is called inside a critical section while another call to it is running: await that \
                 call first"
            )));
        }
        Ok(())
    }

    pub(crate) fn call_ended(&mut self, target: &EntityId) {
        if let Some(section) = &mut self.current {
            section.busy.remove(target);
        }
    }

    pub(crate) fn requested(&mut self, action: i32, id: String, locks: Vec<EntityId>) {
        self.current = Some(Section { action, id, locks, granted: false, busy: BTreeSet::new() });
    }

    /// Takes over the id that history has recorded for a request.
    pub(crate) fn confirmed(&mut self, action: i32, id: &str) {
        let sections = self.current.iter_mut().chain(&mut self.orphaned);
        for section in sections.filter(|section| section.action == action) {
            id.clone_into(&mut section.id);
        }
    }

    /// The locks are held now. Returns the section if nobody wants them any more and they must be released.
    pub(crate) fn granted(&mut self, action: i32) -> Option<Section> {
        if let Some(section) = self.current.as_mut().filter(|section| section.action == action) {
            section.granted = true;
            return None;
        }
        let index = self.orphaned.iter().position(|section| section.action == action)?;
        Some(self.orphaned.swap_remove(index))
    }

    /// The code dropped its request or its guard. Returns the section if it must be released now.
    pub(crate) fn dropped(&mut self, action: i32) -> Option<Section> {
        let section = self.current.take_if(|section| section.action == action)?;
        if section.granted {
            return Some(section);
        }
        self.orphaned.push(section);
        None
    }

    /// The execution ends: everything that was requested is released.
    pub(crate) fn close(&mut self) -> Vec<Section> {
        self.current.take().into_iter().chain(self.orphaned.drain(..)).collect()
    }
}

/// A request for locks: a future that is ready when all of them are held.
#[must_use = "the locks are requested already; await them, or drop this to give them back"]
pub struct LockRequest {
    cell: Arc<Cell>,
    /// Absent when the request was refused, and once the guard has taken over.
    held: Option<(Shared, i32)>,
}

impl LockRequest {
    pub(crate) fn new(cell: Arc<Cell>, core: Shared, action: i32) -> Self {
        Self { cell, held: Some((core, action)) }
    }

    pub(crate) fn refused(failure: Failure) -> Self {
        let cell = Cell::new();
        cell.complete(Err(failure));
        Self { cell, held: None }
    }
}

impl Future for LockRequest {
    type Output = Result<CriticalSection, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.cell.poll(cx).map(|outcome| outcome.map(|_| CriticalSection { held: self.held.take() }))
    }
}

impl Drop for LockRequest {
    fn drop(&mut self) {
        if let Some((core, action)) = self.held.take() {
            core.lock().leave_section(action);
        }
    }
}

impl fmt::Debug for LockRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockRequest").field("action", &self.held.as_ref().map(|held| held.1)).finish_non_exhaustive()
    }
}

/// The locks of a critical section, held until [`CriticalSection::release`] or until this is dropped.
///
/// While it lives: only the locked entities may be called, each by one call at a time; they may not be signaled; no
/// sub-orchestration may be called and no other locks requested. A call that breaks a rule fails with
/// [`Failure::CRITICAL_SECTION`] and asks for nothing.
#[must_use = "dropping the guard releases the locks at once"]
pub struct CriticalSection {
    held: Option<(Shared, i32)>,
}

impl CriticalSection {
    /// Releases the locks.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for CriticalSection {
    fn drop(&mut self) {
        if let Some((core, action)) = self.held.take() {
            core.lock().leave_section(action);
        }
    }
}

impl fmt::Debug for CriticalSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CriticalSection")
            .field("action", &self.held.as_ref().map(|held| held.1))
            .finish_non_exhaustive()
    }
}
