//! Split denormalised Parquet into tables with gap-free sequential IDs.
fn main() {}
