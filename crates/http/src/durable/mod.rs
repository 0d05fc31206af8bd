//! The HTTP contract of Durable Functions: orchestrations, their histories, entities. What it does differently, for
//! safety, is said in `docs/http.md`. Must never know which hub it speaks to.

pub(crate) mod answers;
pub(crate) mod entities;
pub(crate) mod history;
pub(crate) mod instances;
pub(crate) mod lists;
pub(crate) mod start;
