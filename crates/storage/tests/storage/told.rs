//! What users are told when a place cannot be used, and what they must never be shown.

use std::path::Path;

use seriatim_storage::{Environment, ErrorKind, Location};
use seriatim_testing::{Azurite, Fault, Faulty};

use crate::{at, container};

#[test]
fn a_container_that_is_missing_is_not_an_object_that_is_missing() {
    let place = at(&Azurite::shared().blob_address(), "nowhere", "5");
    let outcomes = [
        place.head("x").unwrap_err(),
        place.read("x").unwrap_err(),
        place.list("").unwrap_err(),
        place.write("x", "1").unwrap_err(),
        place.create("x", "1").unwrap_err(),
        place.read_ranges("x", &[0..1], None).unwrap_err(),
    ];
    for error in outcomes {
        assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
        assert!(error.message.contains("nowhere") && error.message.contains("ContainerNotFound"), "{error}");
        assert!(error.help.as_ref().is_some_and(|help| help.contains("container")), "{error:?}");
    }
}

#[test]
fn wrong_credentials_are_told_and_never_shown() {
    let azurite = Azurite::shared();
    let name = azurite.container();
    let canary = "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LWNhbmFyeQ==";
    let signature = format!("sv=2021-12-02&ss=b&srt=sco&sp=r&se=2100-01-01&sig={canary}");
    for credential in [("AZURE_STORAGE_KEY", canary), ("AZURE_STORAGE_SAS_TOKEN", signature.as_str())] {
        let endpoint = azurite.blob_endpoint();
        let environment = Environment::of([
            ("AZURE_STORAGE_ACCOUNT", azurite.account()),
            ("AZURE_STORAGE_ENDPOINT", &endpoint),
            credential,
        ]);
        let place = Location::parse_in(&format!("az://{name}"), Path::new("/"), &environment).unwrap();
        let errors = [
            place.read("x").unwrap_err(),
            place.list("").unwrap_err(),
            place.head("x").unwrap_err(),
            place.write("x", "1").unwrap_err(),
            place.delete("x").unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind, ErrorKind::Unauthorised, "{}: {error}", credential.0);
            let shown = format!("{error} {error:?} {place} {place:?} {environment:?}");
            assert!(!shown.contains("Y2FuYXJ5") && !shown.contains("sig="), "{shown}");
            assert!(error.help.as_ref().is_some_and(|help| help.contains("AZURE_STORAGE_KEY")), "{error:?}");
        }
    }
}

#[test]
fn a_signature_is_not_shown_when_the_service_is_away() {
    let azurite = Azurite::shared();
    let name = azurite.container();
    let sas = azurite.sas();
    let away = Faulty::before(&azurite.blob_address(), |_| Fault::Lost);
    let place = |address: &str| {
        let endpoint = format!("http://{address}/devstoreaccount1");
        let connection = format!("BlobEndpoint={endpoint};SharedAccessSignature={sas}");
        let environment = Environment::of([
            ("AZURE_STORAGE_CONNECTION_STRING", connection.as_str()),
            ("SERIATIM_STORAGE_TIMEOUT", "1"),
        ]);
        Location::parse_in(&format!("az://{name}"), Path::new("/"), &environment).unwrap()
    };
    let works = place(&azurite.blob_address());
    works.write("a b/x", "1").unwrap();
    works.copy("a b/x", "y").unwrap();
    assert_eq!(works.list("").unwrap().len(), 2);
    assert_eq!(works.read("y").unwrap().unwrap().0, "1");
    // Objects are removed in batches, which Azurite refuses under an account's signature (Azure does not).
    let fails = place(away.address());
    for error in [fails.read("x").unwrap_err(), fails.list("").unwrap_err(), fails.write("x", "").unwrap_err()] {
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("sig") && !shown.contains("se="), "{shown}");
    }
}

#[test]
fn no_credentials_at_all_are_told_soon() {
    // The machine is asked for an identity of its own; a test's machine has none that such an account accepts.
    let environment =
        Environment::of([("AZURE_STORAGE_ACCOUNT", "nobody"), ("IDENTITY_ENDPOINT", "http://127.0.0.1:9/msi")]);
    let place = Location::parse_in("az://c/p", Path::new("/"), &environment).unwrap();
    assert_eq!(place.to_string(), "az://c/p");
    let error = Location::parse_in("az://c/p", Path::new("/"), &Environment::of([("A", "b")])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.help.is_some_and(|help| help.contains("AZURE_STORAGE_ACCOUNT")));
}

#[test]
fn what_travels_is_counted() {
    let place = container();
    place.write("x", vec![0; 1000]).unwrap();
    place.read("x").unwrap();
    place.read_ranges("x", &[0..10], None).unwrap();
    let traffic = place.traffic();
    assert_eq!((traffic.bytes_written, traffic.bytes_read), (1000, 1010));
}
