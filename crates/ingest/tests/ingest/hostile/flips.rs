//! Files that something has damaged: cut anywhere, or with any byte changed.

use seriatim_ingest::Paths;
use seriatim_pipeline::model::OnBadFile;

use super::made::{Codec, Form, ROWS, forms, good};
use super::{WAYS, look, look_with, things};
use crate::harness::Place;
use crate::rng::{Rng, scaled, seed};

#[test]
fn a_good_file_of_every_form_is_read() {
    let place = Place::new();
    for form in forms() {
        for paths in WAYS {
            let read = look(&place, &good(form).write(), paths);
            assert_eq!(read, Ok(ROWS), "{form:?} {paths:?}");
        }
    }
}

#[test]
fn a_file_that_was_cut_is_bad_wherever_that_was() {
    let place = Place::new();
    let whole = good(Form { codec: Codec::Snappy, second: false, checksums: true, dictionary: true }).write();
    for length in 0..whole.len() {
        for paths in WAYS {
            let bad = look(&place, &whole[..length], paths).expect_err("a part is no file");
            assert_eq!(bad.bytes, length as u64);
        }
    }
}

/// Changes every byte of a file, in three ways, and says what became of it: of how many the change was found.
fn flip_all(place: &Place, form: Form, seed: u64) -> (usize, usize) {
    let whole = good(form).write();
    let (mut found, mut all) = (0, 0);
    for at in 0..whole.len() {
        let mut rng = Rng::at(seed, &[at as u64]);
        let mut outcomes = Vec::new();
        let change = [0xff, 1 << rng.below(8), 1 + rng.below(255) as u8][rng.below(3) as usize];
        let mut content = whole.clone();
        content[at] ^= change;
        for paths in WAYS {
            // A byte of the schema may make another column of one that the pipeline needs, which is told as such.
            let outcome = look_with(place, &content, paths, &things(OnBadFile::Quarantine));
            if let Ok(Ok(rows)) = &outcome {
                assert_eq!(*rows, ROWS, "{form:?}, byte {at} by {change}: all rows or none");
            }
            outcomes.push(outcome);
        }
        // A file is bad or good whichever way it will be read.
        assert_eq!(outcomes[0], outcomes[1], "{form:?}, byte {at} by {change}");
        if form.checksums && matches!(outcomes[0], Ok(Ok(_))) {
            let footer = whole.len()
                - 8
                - u32::from_le_bytes(*whole[..whole.len() - 4].last_chunk().expect("a length")) as usize;
            assert!(
                at < 4 || at >= footer || in_header(form, at),
                "{form:?}, byte {at} by {change}: the checksum is wrong"
            );
        }
        found += usize::from(!matches!(outcomes[0], Ok(Ok(_))));
        all += 1;
    }
    (found, all)
}

/// Whether a byte is in the header of a page.
fn in_header(form: Form, at: usize) -> bool {
    let made = good(form);
    let mut place = 4;
    for page in made.groups.iter().flatten().flatten() {
        let header = page.header.bytes().len();
        if (place..place + header).contains(&at) {
            return true;
        }
        place += header + page.body.len();
    }
    false
}

#[test]
fn a_changed_byte_is_found_or_changes_no_number_of_rows() {
    let name = "a_changed_byte_is_found_or_changes_no_number_of_rows";
    let seed = seed(name);
    let place = Place::new();
    let forms = forms();
    let picked = |codec, second, checksums, dictionary| Form { codec, second, checksums, dictionary };
    let mut chosen = vec![
        picked(Codec::None, false, false, true),
        picked(Codec::None, true, true, true),
        picked(Codec::Snappy, false, true, true),
        picked(Codec::Zstd, true, false, true),
        picked(Codec::Snappy, true, true, false),
    ];
    let mut rng = Rng::new(seed);
    chosen.extend((1..scaled(1)).map(|_| rng.pick(&forms)));
    for form in chosen {
        let (found, all) = flip_all(&place, form, seed);
        println!("{form:?}: {found} of {all} changes are found");
    }
}

#[test]
fn many_changes_at_once_are_no_worse() {
    let seed = seed("many_changes_at_once_are_no_worse");
    let place = Place::new();
    let forms = forms();
    for round in 0..scaled(1500) {
        let mut rng = Rng::at(seed, &[u64::from(round)]);
        let mut content = good(rng.pick(&forms)).write();
        for _ in 0..=rng.below(6) {
            let at = rng.below(content.len() as u64) as usize;
            match rng.below(4) {
                0 => content[at] = rng.next() as u8,
                1 => content[at] ^= 1 << rng.below(8),
                2 => {
                    content.remove(at);
                }
                _ => content.insert(at, rng.next() as u8),
            }
        }
        let paths = [Paths::Pages, Paths::General, Paths::Auto][rng.below(3) as usize];
        if let Ok(Ok(rows)) = look_with(&place, &content, paths, &things(OnBadFile::Quarantine)) {
            assert_eq!(rows, ROWS, "round {round}: all rows or none");
        }
    }
}
