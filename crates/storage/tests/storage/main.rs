//! Locations: one suite of what a caller relies on, run against a local folder and against Azurite; then what happens
//! when requests to the service fail; then what users are told, and what they must never be shown.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(clippy::single_range_in_vec_init, reason = "one range is what is meant")]

mod faults;
mod suite;
mod told;

use std::path::Path;

use seriatim_storage::{Environment, Location};
use seriatim_testing::{Azurite, Fault, Faulty, Request};

/// A new container of the shared emulator.
fn container() -> Location {
    let azurite = Azurite::shared();
    at(&azurite.blob_address(), &azurite.container(), "60")
}

/// A container behind an address of the emulator, or of what stands before it.
fn at(address: &str, container: &str, timeout: &str) -> Location {
    let url = format!("http://{address}/devstoreaccount1/{container}");
    Location::parse_in(&url, Path::new("/"), &Environment::of([("SERIATIM_STORAGE_TIMEOUT", timeout)])).unwrap()
}

/// A new container, as it is and behind a connection with faults.
fn faulty(timeout: &str, fault: impl Fn(&Request) -> Fault + Send + Sync + 'static) -> (Location, Location, Faulty) {
    let azurite = Azurite::shared();
    let name = azurite.container();
    let faulty = Faulty::before(&azurite.blob_address(), fault);
    (at(&azurite.blob_address(), &name, "60"), at(faulty.address(), &name, timeout), faulty)
}
