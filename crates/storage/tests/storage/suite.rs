//! What a caller relies on, of any kind of place.

use std::sync::Barrier;

use seriatim_storage::{Created, ErrorKind, Location, Replaced, Version};

use crate::container;

/// Runs one part of the suite against every kind of place.
fn everywhere(check: impl Fn(&Location)) {
    let folder = tempfile::tempdir().unwrap();
    check(&Location::parse("place", folder.path()).unwrap());
    let container = container();
    check(&container);
    check(&container.join("a folder/in it").unwrap());
}

fn names(location: &Location, prefix: &str) -> Vec<String> {
    location.list(prefix).unwrap().into_iter().map(|entry| entry.name).collect()
}

#[test]
fn what_is_written_is_there_and_listed_by_name() {
    everywhere(|place| {
        assert_eq!(place.read("x").unwrap(), None);
        assert_eq!(place.head("x").unwrap(), None);
        assert_eq!(names(place, ""), Vec::<String>::new());
        for name in ["b/2", "b/10", "b/B", "a", "c=1/ä ö%20+&'[x]"] {
            let version = place.write(name, name.as_bytes().to_vec()).unwrap();
            let (bytes, found) = place.read(name).unwrap().unwrap();
            assert_eq!((&bytes[..], &found), (name.as_bytes(), &version));
            let entry = place.head(name).unwrap().unwrap();
            assert_eq!((entry.name.as_str(), entry.size, &entry.version), (name, name.len() as u64, &version));
        }
        assert_eq!(names(place, ""), ["a", "b/10", "b/2", "b/B", "c=1/ä ö%20+&'[x]"]);
        assert_eq!(names(place, "b/"), ["b/10", "b/2", "b/B"]);
        assert_eq!(names(place, "b/1"), ["b/10"]);
        let listed = place.list("b/2").unwrap();
        assert!(listed.is_empty(), "an object is not its own prefix: {listed:?}");
        let listed = &place.list("b/1").unwrap()[0];
        assert_eq!(Some(listed), place.head("b/10").unwrap().as_ref(), "a list and a look agree");
        let joined = place.join("b").unwrap();
        assert_eq!(names(&joined, ""), ["10", "2", "B"]);
        assert_eq!(joined.join("2").unwrap().read("").unwrap().unwrap().0, "b/2");
        place.delete("b/2").unwrap();
        place.delete("b/2").unwrap();
        place.delete_all(&["a", "b/10", "b/10", "never"]).unwrap();
        assert_eq!(names(place, ""), ["b/B", "c=1/ä ö%20+&'[x]"]);
    });
}

#[test]
fn ranges_are_read_of_the_version_that_was_asked_for() {
    everywhere(|place| {
        let bytes: Vec<u8> = (0..20 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let version = place.write("x", bytes.clone()).unwrap();
        let ranges = [5..9, 0..1, 100..100, 1 << 20..19 << 20, (20 << 20) - 1..20 << 20, 7..2 << 20];
        let read = place.read_ranges("x", &ranges, Some(&version)).unwrap();
        for (range, read) in ranges.iter().zip(&read) {
            assert!(bytes[range.start as usize..range.end as usize] == read[..], "{range:?}");
        }
        let error = place.read_ranges("x", &[0..(20 << 20) + 1], None).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Changed, "{error}");
        // Same size, other content.
        place.write("x", vec![7; 20 << 20]).unwrap();
        let error = place.read_ranges("x", &[0..4], Some(&version)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Changed, "{error}");
        let error = place.read_ranges("never", &[0..4], None).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    });
}

#[test]
fn of_many_creators_at_once_one_creates() {
    everywhere(|place| {
        let barrier = Barrier::new(16);
        let created = std::thread::scope(|scope| {
            let create = |i: u8| {
                let barrier = &barrier;
                move || {
                    barrier.wait();
                    (i, place.create("lease", vec![i; 10]).unwrap())
                }
            };
            let threads: Vec<_> = (0..16).map(|i| scope.spawn(create(i))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let mut winners = created.iter().filter(|(_, outcome)| matches!(outcome, Created::Created(_)));
        let (winner, Created::Created(version)) = winners.next().unwrap() else { unreachable!() };
        assert_eq!(winners.next(), None);
        assert_eq!(place.read("lease").unwrap().unwrap(), (vec![*winner; 10].into(), version.clone()));
    });
}

#[test]
fn of_many_replacers_of_one_version_one_replaces() {
    everywhere(|place| {
        let Created::Created(mut version) = place.create("counter", "0").unwrap() else { unreachable!() };
        assert_eq!(place.replace("counter", "x", &Version("none such".into())).unwrap(), Replaced::Changed);
        assert_eq!(place.replace("never", "x", &version).unwrap(), Replaced::Changed);
        assert_eq!(place.read("never").unwrap(), None);
        for round in 1..6_u32 {
            let replaced = std::thread::scope(|scope| {
                let replace = || place.replace("counter", round.to_string(), &version).unwrap();
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(replace)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            });
            let mut next = replaced.into_iter().filter_map(|outcome| match outcome {
                Replaced::Replaced(version) => Some(version),
                Replaced::Changed => None,
            });
            let now = next.next().unwrap();
            assert_eq!(next.next(), None, "round {round}");
            assert_ne!(now, version, "a version is never used again, however fast writes follow each other");
            version = now;
            assert_eq!(place.read("counter").unwrap().unwrap(), (round.to_string().into(), version.clone()));
        }
    });
}

#[test]
fn files_travel_whole_small_and_large() {
    let files = tempfile::tempdir().unwrap();
    let (from, to) = (files.path().join("from"), files.path().join("deep/to"));
    everywhere(|place| {
        for size in [0, 1, 8 << 20, (8 << 20) + 1, 50_000_003] {
            let bytes: Vec<u8> = (0..size).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            std::fs::write(&from, &bytes).unwrap();
            let entry = place.upload("x/y", &from).unwrap();
            assert_eq!((entry.name.as_str(), entry.size), ("x/y", u64::from(size)));
            assert_eq!(place.head("x/y").unwrap(), Some(entry.clone()));
            assert_eq!(place.download("x/y", &to).unwrap(), entry);
            assert!(std::fs::read(&to).unwrap() == bytes, "{size}");
        }
        let error = place.download("never", &to).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
        assert_eq!(std::fs::read_dir(to.parent().unwrap()).unwrap().count(), 1, "nothing unfinished is left");
    });
}

#[test]
fn two_uploads_of_one_name_at_once_leave_one_whole_object() {
    // Azure drops the parts of all uploads of a blob when one of them is completed.
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("from");
    std::fs::write(&file, vec![3; 40 << 20]).unwrap();
    everywhere(|place| {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| place.upload("x", &file).unwrap())).collect();
            for thread in threads {
                assert_eq!(thread.join().unwrap().size, 40 << 20);
            }
        });
        assert!(place.read("x").unwrap().unwrap().0 == vec![3; 40 << 20]);
    });
}

#[test]
fn copies_are_made_where_they_may() {
    everywhere(|place| {
        place.write("a", "1").unwrap();
        place.write("b", "2").unwrap();
        assert!(!place.copy_if_absent("a", "b").unwrap());
        assert_eq!(place.read("b").unwrap().unwrap().0, "2");
        assert!(place.copy_if_absent("a", "c/d").unwrap());
        assert_eq!(place.read("c/d").unwrap().unwrap().0, "1");
        place.copy("a", "b").unwrap();
        assert_eq!(place.read("b").unwrap().unwrap().0, "1");
        let error = place.copy("never", "x").unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    });
}

#[test]
fn a_place_is_the_same_however_it_is_written() {
    let azurite = seriatim_testing::Azurite::shared();
    let name = azurite.container();
    let environment = seriatim_storage::Environment::of(azurite.variables());
    let parse = |text: &str| Location::parse_in(text, std::path::Path::new("/"), &environment).unwrap();
    let (short, long) =
        (parse(&format!("az://{name}/a/b")), parse(&format!("{}/{name}//a/./b/", azurite.blob_endpoint())));
    assert_eq!(short.identity(), long.identity());
    short.write("c", "x").unwrap();
    assert_eq!(long.read("c").unwrap().unwrap().0, "x");
    assert_eq!(short.to_string(), format!("az://{name}/a/b"));
    let (container, path) = short.in_container().unwrap();
    assert_eq!((container.to_string(), path), (format!("az://{name}"), "a/b"));
}
