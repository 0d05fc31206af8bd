//! The demo: a retailer's order lines as a data engineer meets them, the pipeline that takes them apart, and the folder
//! that holds both. Must never touch what it did not make.

mod catalog;
mod columns;
mod data;
mod draw;
mod folder;
mod orders;
mod preview;
mod words;

pub(crate) use data::Parameters;
pub(crate) use folder::{DemoFolder, Made};
pub(crate) use preview::first_rows;
