//! Plan, scan, resolve, reserve, write, publish, verify: denormalised Parquet into tables with gap-free IDs.
