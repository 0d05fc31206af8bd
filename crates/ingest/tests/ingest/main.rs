//! What the ingest promises, proved from the outside: pipelines run through the public `Runner` on the embedded hub,
//! and everything that a reader of the output could see is compared with an oracle, a plain sequential loop over the
//! records with one hash map per table. Nothing in here may look inside the ingest, and the oracle may share no code
//! with it.
//!
//! Sources in object storage are read from Azurite, which `scripts/test` installs.
//!
//! Random tests print their seed; `SERIATIM_TEST_SEED` replays it. `SERIATIM_TEST_SCALE` (default 1) multiplies the
//! number of cases.

mod bytes;
mod case;
mod cells;
mod checks;
mod concurrency;
mod crash;
mod damage;
mod delta;
mod draws;
mod drift;
mod elements;
mod errors;
mod existing;
mod fields;
mod files;
mod groups;
mod guarantees;
mod harness;
mod history;
mod hostile;
mod ids;
mod leftovers;
mod lookups;
mod nested;
mod objects;
mod oracle;
mod outputs;
mod recover;
mod replay;
mod rng;
mod shared;
mod store;
mod text;
mod text_ids;
