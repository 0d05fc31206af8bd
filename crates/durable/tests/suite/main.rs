//! The tests of the durable layer, in one program so that they are linked once.

mod bench;
mod changes;
mod critical_sections;
mod entities;
mod event_json;
mod fake_hub;
mod histories;
mod non_determinism;
mod orchestrations;
mod random;
mod worker;
