//! Requests fail: they are repeated until they succeed, or the error is clear. Never is an answer wrong: no bytes of
//! another object or too few of them, no object that is created twice.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use seriatim_storage::{Created, ErrorKind, Replaced};
use seriatim_testing::{Fault, Request};

use crate::{at, faulty};

/// Fails two of three requests, each time in another way.
fn often(request: &Request) -> Fault {
    let faults = [Fault::Lost, Fault::Status(503), Fault::Cut(100), Fault::AnswerLost, Fault::Status(500)];
    match request.number {
        number if number % 3 == 2 => Fault::None,
        number => faults[(number / 3 * 2 + number % 3) as usize % faults.len()],
    }
}

fn content(size: u32) -> Vec<u8> {
    (0..size).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn every_operation_survives_requests_that_fail() {
    let (direct, place, connection) = faulty("60", often);
    let bytes = content(20 << 20);
    let version = place.write("x", bytes.clone()).unwrap();
    assert!(direct.read("x").unwrap().unwrap().0 == bytes);
    assert!(place.read("x").unwrap().unwrap().0 == bytes);
    let ranges = [10..20, 1 << 20..18 << 20];
    let read = place.read_ranges("x", &ranges, Some(&version)).unwrap();
    assert!(read.iter().zip(&ranges).all(|(read, r)| read[..] == bytes[r.start as usize..r.end as usize]));
    assert_eq!(place.head("x").unwrap().unwrap().size, 20 << 20);
    assert_eq!(place.head("never").unwrap(), None);
    place.copy("x", "y").unwrap();
    assert_eq!(place.list("").unwrap().len(), 2);
    place.delete("y").unwrap();
    assert_eq!(direct.head("y").unwrap(), None);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    place.download("x", &file).unwrap();
    assert!(std::fs::read(&file).unwrap() == bytes);
    place.upload("z", &file).unwrap();
    assert!(direct.read("z").unwrap().unwrap().0 == bytes);
    assert!(connection.requests() > 30, "{}", connection.requests());
}

#[test]
fn g1_a_condition_holds_once_also_when_its_answer_is_lost() {
    // A request that is repeated meets what it has itself written: that is success, not another's object.
    for fault in [Fault::AnswerLost, Fault::Cut(0), Fault::Lost, Fault::Status(503)] {
        let puts = AtomicU64::new(0);
        let (direct, place, _connection) = faulty("60", move |request| {
            let is_first = request.method == "PUT" && puts.fetch_add(1, Relaxed).is_multiple_of(2);
            if is_first { fault } else { Fault::None }
        });
        let Created::Created(version) = place.create("lease", "mine").unwrap() else { panic!("{fault:?}") };
        assert_eq!(direct.read("lease").unwrap().unwrap(), ("mine".into(), version.clone()), "{fault:?}");
        assert_eq!(place.create("lease", "mine").unwrap(), Created::Exists, "{fault:?}");
        let Replaced::Replaced(version) = place.replace("lease", "still", &version).unwrap() else {
            panic!("{fault:?}")
        };
        assert_eq!(direct.read("lease").unwrap().unwrap(), ("still".into(), version.clone()), "{fault:?}");
        direct.write("lease", "another's").unwrap();
        assert_eq!(place.replace("lease", "mine", &version).unwrap(), Replaced::Changed, "{fault:?}");
        assert_eq!(direct.read("lease").unwrap().unwrap().0, "another's");
    }
}

#[test]
fn an_object_that_changes_between_two_parts_of_its_body_is_not_mixed() {
    // The second half would come from another object: the condition on the e-tag keeps it out.
    let azurite = seriatim_testing::Azurite::shared();
    let name = azurite.container();
    let direct = at(&azurite.blob_address(), &name, "60");
    let other = direct.clone();
    let (before, after) = (vec![1_u8; 1 << 20], vec![2_u8; 1 << 20]);
    let version = direct.write("x", before).unwrap();
    let new = after.clone();
    let connection = seriatim_testing::Faulty::before(&azurite.blob_address(), move |request| {
        if request.number != 0 {
            return Fault::None;
        }
        // Its answer is already fixed when it is cut; what follows comes from the new object.
        let new = new.clone();
        let other = other.clone();
        std::thread::spawn(move || other.write("x", new).unwrap()).join().unwrap();
        Fault::Lost
    });
    let place = at(connection.address(), &name, "60");
    let error = place.read_ranges("x", &[0..1 << 20], Some(&version)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Changed, "{error}");
    assert!(place.read("x").unwrap().unwrap().0 == after);
}

#[test]
fn a_service_that_is_away_is_a_clear_error_in_time() {
    for (fault, word) in [
        (Fault::Lost, "cannot"),
        (Fault::Status(503), "503"),
        (Fault::Cut(10), "cannot"),
        (Fault::Late(Duration::from_hours(1)), "cannot"),
    ] {
        let (direct, place, _connection) = faulty("1", move |_| fault);
        direct.write("x", content(1000)).unwrap();
        let error = place.read("x").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{fault:?}: {error}");
        assert!(error.message.contains(word) && error.message.contains("/x"), "{fault:?}: {error}");
        let error = place.list("").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{fault:?}: {error}");
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = at(&nobody, "c", "1").read("x").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.message.contains("refused") && error.help.is_some(), "{error:?}");
}

#[test]
fn g8_an_upload_that_fails_leaves_no_object() {
    let (direct, place, _connection) =
        faulty("1", |request| if request.target.contains("comp=blocklist") { Fault::Status(500) } else { Fault::None });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, content(30 << 20)).unwrap();
    assert_eq!(place.upload("x", &file).unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(direct.head("x").unwrap(), None);
    assert_eq!(direct.list("").unwrap(), []);
}
