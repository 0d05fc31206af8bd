//! The pipeline file of Seriatim: parsing, validation, JSON Schema.

pub mod model;
