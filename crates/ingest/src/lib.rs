//! What Seriatim exists for: denormalised Parquet in, tables of distinct things out, each with a unique, sequential,
//! gap-free ID. A run goes plan, scan, resolve, reserve, write, publish; see ARCHITECTURE.md in the repository for the
//! whole way of a record. This crate must never know which task hub it runs on.
//!
//! The entry is [`Runner`]: it runs a [`Project`] on any task hub. [`check`], [`plan`] and [`verify`] look without
//! changing anything.

mod added;
mod adopt;
mod artifacts;
mod checks;
mod committed;
mod context;
mod delta;
mod drift;
mod elements;
mod engine;
mod error;
mod existing;
mod facts;
mod file_size;
mod files;
mod history;
mod ids;
mod in_group;
mod keymap;
mod keys;
mod layout;
mod ledger;
mod look;
mod lookups;
mod manifest;
mod near;
mod new_keys;
mod number;
mod orchestration;
mod outcome;
mod output;
mod pages;
mod partition;
mod plan;
mod pool;
mod process;
mod progress;
mod project;
mod publish;
mod record;
mod recover;
mod replay;
mod report;
mod resolve;
mod runner;
mod scan;
mod sequence;
mod settled;
mod shared;
mod sound;
mod source;
mod state_id;
mod steps;
mod suggest;
mod text;
mod text_ids;
mod things;
mod verify;
mod who;
mod withdraw;
mod write;

pub use drift::{Difference, Differs};
pub use error::{BadFile, ErrorKind, IngestError, Result};
pub use ledger::ledger;
pub use look::{check, plan};
pub use plan::Paths;
pub use progress::{Progress, Step};
pub use project::Project;
pub use record::{request_cancel, run_record, runs};
pub use recover::{RecoverReport, RecoveredTable};
pub use replay::{quarantine, replay};
pub use report::{
    AsideFile, CheckOutcome, CheckReport, CheckTable, FoundStart, IdRange, LedgerEntry, LedgerReport, LedgerTable,
    LookupFile, Place, PlanFile, PlanReport, QuarantineReason, QuarantineReport, RunReport, RunStatus, TableReport,
    VerifyCheck, VerifyReport, WhoReport,
};
pub use runner::{Runner, RunnerOptions};
pub use suggest::{LeftOut, SuggestOptions, SuggestedColumn, SuggestedTable, Suggestion, counted, grouped, suggest};
pub use things::{Found, Things};
pub use verify::verify;
pub use who::who;
