//! Files that somebody has made to do harm: their footers and page headers are whole, and say what is not so. Each is
//! refused with the place and the reason, before room is made for what it declares.

use std::time::{Duration, Instant};

use seriatim_ingest::AsideFile;
use seriatim_pipeline::model::OnBadFile;

use super::made::{
    BINARY, Body, Codec, Form, GROUP, LIST, Made, PAGE, PLAIN, ROWS, STRUCT, Value, branch, close, forms, good,
    indices, leaf, list_head, strings, text, varint,
};
use super::{WAYS, by, look, look_with, things};
use crate::harness::{Place, run};

/// Where a file says that it is wrong.
type Where<'a> = (Option<u64>, Option<&'a str>);

/// The file is set aside for this reason, which is told with this place, whichever way it is read.
fn refused(what: &str, content: &[u8], place: Where<'_>, reason: &str) -> AsideFile {
    let folder = Place::new();
    let bad = WAYS.map(|paths| look(&folder, content, paths).expect_err(what));
    assert_eq!(bad[0], bad[1], "{what}");
    let [bad, _] = bad;
    assert_eq!((bad.what.row_group, bad.what.column.as_deref()), place, "{what}: {bad:?}");
    assert!(bad.what.reason.contains(reason), "{what}: {bad:?}");
    // Where bad files are not set aside, a run says so and stops. What it does not read it may miss, and no row of it.
    for paths in WAYS {
        match run(&folder, &things(OnBadFile::Fail), &by(paths)) {
            Ok(report) => {
                assert_eq!((report.records, report.tables[1].rows), (ROWS, ROWS), "{what}");
                break;
            }
            Err(failed) => {
                assert!(failed.message.contains("data/b.parquet"), "{what}: {failed:?}");
                assert!(!failed.help.is_empty(), "{what}: {failed:?}");
            }
        }
    }
    bad
}

fn footer_lies(what: &str, place: Where<'_>, reason: &str, lie: impl FnOnce(&mut Value)) {
    refused(what, &good(PLAIN).write_with(lie), place, reason);
}

fn page_lies(what: &str, place: Where<'_>, reason: &str, form: Form, lie: impl FnOnce(&mut Made)) {
    let mut made = good(form);
    lie(&mut made);
    refused(what, &made.write(), place, reason);
}

/// The path to a field of a column chunk's metadata.
fn meta(group: i16, column: i16, field: i16) -> [i16; 6] {
    [4, group, 1, column, 3, field]
}

const KEY: Where<'static> = (Some(0), Some("key"));
const LATER: Where<'static> = (Some(1), Some("n"));
const WHOLE: Where<'static> = (None, None);

#[test]
fn counts_that_disagree_are_refused() {
    footer_lies("rows of the file", WHOLE, "declares 41 rows, its row groups have 40", |f| f.set(&[3], 41));
    footer_lies("rows of a group", WHOLE, "declares 40 rows, its row groups have 41", |f| f.set(&[4, 0, 3], 21));
    footer_lies("negative rows", (Some(1), None), "negative", |f| f.set(&[4, 1, 3], -20));
    footer_lies("rows beyond all numbers", WHOLE, "declares", |f| {
        f.set(&[4, 0, 3], i64::MAX);
        f.set(&[4, 1, 3], i64::MAX);
    });
    footer_lies("fewer values", KEY, "19 values in 20 rows", |f| f.set(&meta(0, 0, 5), 19));
    footer_lies("negative values", LATER, "-1 values", |f| f.set(&meta(1, 1, 5), -1));
    footer_lies("more rows than pages have", KEY, "20 values where the footer declares 21", |f| {
        f.set(&[3], 41);
        f.set(&[4, 0, 3], 21);
        f.set(&meta(0, 0, 5), 21);
        f.set(&meta(0, 1, 5), 21);
    });
    footer_lies("fewer rows than pages have", KEY, "values where the footer declares 19", |f| {
        f.set(&[3], 39);
        f.set(&[4, 0, 3], 19);
        f.set(&meta(0, 0, 5), 19);
        f.set(&meta(0, 1, 5), 19);
    });
}

#[test]
fn places_that_cannot_be_are_refused() {
    footer_lies("beyond the end", LATER, "its place is bytes", |f| f.set(&meta(1, 1, 7), 1 << 40));
    footer_lies("into the footer", LATER, "data lies in bytes 4 to", |f| {
        let size = f.number(&meta(1, 1, 7));
        f.set(&meta(1, 1, 7), size + 1);
    });
    footer_lies("a negative size", KEY, "its size -1", |f| f.set(&meta(0, 0, 7), -1));
    footer_lies("a negative place", LATER, "its place is byte -5", |f| f.set(&meta(1, 1, 9), -5));
    footer_lies("the beginning", LATER, "its place is bytes 0", |f| f.set(&meta(1, 1, 9), 0));
    footer_lies("beyond all numbers", LATER, "its place is byte", |f| {
        f.set(&meta(1, 1, 9), i64::MAX);
        f.set(&meta(1, 1, 7), i64::MAX);
    });
    footer_lies("data before its dictionary", KEY, "its first data page", |f| f.set(&meta(0, 0, 9), 4 + 10_000));
    footer_lies("columns on the same bytes", (Some(1), Some("key")), "as well", |f| {
        for field in [9, 11, 7] {
            let of_first = f.number(&meta(0, 0, field));
            f.set(&meta(1, 0, field), of_first);
        }
    });
    footer_lies("bytes of two columns", (Some(0), Some("n")), "column 'key' of row group 0", |f| {
        let start = f.number(&meta(0, 1, 9));
        f.set(&meta(0, 1, 9), start - 1);
    });
    footer_lies("another file", KEY, "in another file", |f| *f.at(&[4, 0, 1, 0, 1]) = text("/etc/passwd"));
    footer_lies("encrypted", WHOLE, "encrypted", |f| {
        *f.at(&[4, 0, 1, 0, 8]) = Value::Struct(std::collections::BTreeMap::new());
    });
}

#[test]
fn sizes_that_no_compression_makes_are_refused() {
    let place = (Some(0), Some("n"));
    for codec in [Codec::Snappy, Codec::Zstd] {
        for second in [false, true] {
            let form = Form { codec, second, ..PLAIN };
            let mut made = good(form);
            made.page(0, 1, 1).header.set(&[2], i64::from(i32::MAX));
            refused("two gigabytes", &made.write(), place, "bytes become 2147483");
            // The footer keeps quiet about it.
            let content = made.write_with(|f| f.set(&meta(0, 1, 6), 200));
            refused("two gigabytes in a page", &content, place, "more than its compression can make");
        }
    }
    for codec in [Codec::None, Codec::Snappy, Codec::Zstd] {
        let form = Form { codec, ..PLAIN };
        let content = good(form).write_with(|f| f.set(&meta(0, 1, 6), 1 << 50));
        refused("petabytes in the footer", &content, place, "bytes become 1125899906842624");
        page_lies("a negative size", place, "cannot be read", form, |made| made.page(0, 1, 0).header.set(&[2], -1));
        page_lies("a negative length", place, "cannot be read", form, |made| made.page(0, 1, 0).header.set(&[3], -1));
        page_lies("beyond its chunk", place, "beyond the end of its column chunk", form, |made| {
            made.page(0, 1, 1).header.set(&[3], 10_000);
        });
    }
    let form = Form { codec: Codec::Zstd, ..PLAIN };
    page_lies("a little more than there is", place, "", form, |made| {
        let size = made.page(0, 1, 0).header.number(&[2]);
        made.page(0, 1, 0).header.set(&[2], size + 1);
    });
}

#[test]
fn page_headers_that_lie_are_refused() {
    let n = (Some(1), Some("n"));
    let key = (Some(1), Some("key"));
    for form in forms().into_iter().filter(|form| form.codec == Codec::None && !form.checksums) {
        let head = if form.second { 8 } else { 5 };
        let values = if form.second { 4 } else { 2 };
        page_lies("more values", n, "declares 11 values in 80 bytes", form, |made| {
            made.page(1, 1, 0).header.set(&[head, 1], 11);
        });
        if form.dictionary {
            // Of codes, which need no room, the footer's count is the bound.
            page_lies("more codes", key, "values where the footer declares 20", form, |made| {
                let page = made.groups[1][0].len() - 1;
                made.page(1, 0, page).header.set(&[head, 1], 11);
            });
        }
        page_lies("fewer values", n, "", form, |made| made.page(1, 1, 0).header.set(&[head, 1], 9));
        page_lies("negative values", n, "cannot be read", form, |made| made.page(1, 1, 0).header.set(&[head, 1], -1));
        page_lies("a billion values", n, "declares 1073741824 values in 80 bytes", form, |made| {
            made.page(1, 1, 1).header.set(&[head, 1], 1 << 30);
        });
        page_lies("an encoding that is none", n, "", form, |made| made.page(1, 1, 0).header.set(&[head, values], 77));
        page_lies("an encoding that it has not", n, "", form, |made| made.page(1, 1, 0).header.set(&[head, values], 8));
        page_lies("a type that is none", n, "", form, |made| made.page(1, 1, 0).header.set(&[1], 77));
        page_lies("a dictionary that is none", n, "cannot be read", form, |made| {
            made.page(1, 1, 0).header.set(&[1], 2);
        });
        page_lies("another type of field", n, "cannot be read", form, |made| {
            *made.page(1, 1, 0).header.at(&[head, 1]) = text("ten");
        });
        page_lies("levels longer than all", key, "", form, |made| {
            let page = made.groups[1][0].len() - 1;
            if form.second {
                made.page(1, 0, page).header.set(&[8, 5], 1 << 30);
            } else {
                made.page(1, 0, page).body[..4].copy_from_slice(&u32::MAX.to_le_bytes());
            }
        });
        page_lies("levels of other values", key, "", form, |made| {
            let page = made.groups[1][0].len() - 1;
            // One run of three values where there are ten.
            let at = if form.second { 0 } else { 4 };
            made.page(1, 0, page).body[at] = 3 << 1;
        });
    }
    let form = Form { second: true, ..PLAIN };
    page_lies("more nulls than values", n, "11 nulls", form, |made| made.page(1, 1, 0).header.set(&[8, 2], 11));
    page_lies("more rows than values", n, "11 rows", form, |made| made.page(1, 1, 0).header.set(&[8, 3], 11));
    page_lies("fewer rows than values", n, "rows where its row group has 20", form, |made| {
        made.page(1, 1, 0).header.set(&[8, 3], 9);
    });
}

#[test]
fn dictionaries_that_lie_are_refused() {
    let key = (Some(1), Some("key"));
    page_lies("more entries than bytes", key, "a dictionary declares 1073741824 values", PLAIN, |made| {
        made.page(1, 0, 0).header.set(&[7, 1], 1 << 30);
    });
    page_lies("an entry more than there are", key, "", PLAIN, |made| made.page(1, 0, 0).header.set(&[7, 1], 14));
    page_lies("an index beyond the entries", key, "", PLAIN, |made| {
        let values = indices(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 200]);
        let body = Body { levels: vec![(PAGE as u8) << 1, 1], values };
        *made.page(1, 0, 2) = PLAIN.data_page(PAGE, &body, 8);
    });
    page_lies("indices of 200 bits", key, "", PLAIN, |made| {
        let body = Body { levels: vec![(PAGE as u8) << 1, 1], values: vec![200, 3, 0, 0] };
        *made.page(1, 0, 2) = PLAIN.data_page(PAGE, &body, 8);
    });
    page_lies("no indices at all", key, "", PLAIN, |made| {
        let body = Body { levels: vec![(PAGE as u8) << 1, 1], values: Vec::new() };
        *made.page(1, 0, 2) = PLAIN.data_page(PAGE, &body, 8);
    });
    page_lies("a second dictionary", key, "not the first page", PLAIN, |made| {
        let again = made.groups[1][0][0].clone();
        made.groups[1][0].push(again);
    });
    page_lies("no dictionary", key, "", PLAIN, |made| {
        made.groups[1][0].remove(0);
    });
    page_lies("an entry that is no text", key, "", PLAIN, |made| {
        let page = PLAIN.dictionary_page(
            13,
            &strings((0..13).map(|_| "x")).iter().map(|&b| if b == b'x' { 0xff } else { b }).collect::<Vec<_>>(),
        );
        *made.page(1, 0, 0) = page;
    });
    page_lies("an entry that is longer than its page", key, "", PLAIN, |made| {
        made.page(1, 0, 0).body[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    });
}

/// Page checksums are verified by both ways of reading, of dictionaries and of data.
#[test]
fn a_wrong_checksum_is_found_in_every_page() {
    for form in forms().into_iter().filter(|form| form.checksums) {
        for column in 0..2 {
            for page in 0..good(form).groups[1][column].len() {
                let name = ["key", "n"][column];
                page_lies("checksum", (Some(1), Some(name)), "hecksum", form, |made| {
                    let crc = made.page(1, column, page).header.number(&[4]);
                    made.page(1, column, page).header.set(&[4], i64::from(crc as i32 ^ 1));
                });
            }
        }
    }
}

/// Symptom: with some plain reader, a file of 42 kB keeps a machine busy until its memory is full. Cause: all its row
/// groups are the same bytes, which become much, again and again. Proved now: it is refused in less than a second.
#[test]
fn a_small_file_of_petabytes_is_refused_at_once() {
    let form = Form { codec: Codec::Snappy, ..PLAIN };
    let petabytes = |overlapping: bool, sizes: bool, rows: i64| {
        good(form).write_with(|f| {
            let Value::List(_, groups) = f.at(&[4]).clone() else { panic!("a list") };
            let many: Vec<Value> = (0..200)
                .map(|_| {
                    let mut group = groups[0].clone();
                    if !overlapping {
                        // The bytes of nobody else, and nothing in them.
                        for column in 0..2 {
                            group.set(&[1, column, 3, 7], 0);
                        }
                    }
                    if sizes {
                        group.set(&[1, 0, 3, 6], 1 << 50);
                    }
                    group.set(&[3], rows);
                    group.set(&[1, 0, 3, 5], rows);
                    group.set(&[1, 1, 3, 5], rows);
                    group
                })
                .collect();
            f.set(&[3], rows * many.len() as i64);
            *f.at(&[4]) = Value::List(STRUCT, many);
        })
    };
    let place = Place::new();
    for (overlapping, sizes, rows) in [
        (true, false, GROUP as i64),
        (true, true, GROUP as i64),
        (true, true, 3_000_000_000_000),
        (true, false, 30_000_000),
        (false, true, 30_000_000),
        (true, false, i64::MAX / 200),
    ] {
        let content = petabytes(overlapping, sizes, rows);
        assert!(content.len() < 42_000, "{} bytes", content.len());
        for paths in WAYS {
            let begun = Instant::now();
            look(&place, &content, paths).expect_err("it cannot be");
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        }
    }
}

/// A footer with something else in the place of a field.
fn with_field(path: &[i16], value: Value) -> Vec<u8> {
    good(PLAIN).write_with(|f| *f.at(path) = value)
}

fn huge_list(wire: u8, count: u64, rest: &[u8]) -> Value {
    let mut bytes = Vec::new();
    list_head(wire, count, &mut bytes);
    bytes.extend_from_slice(rest);
    Value::Raw(LIST, bytes)
}

#[test]
fn footers_that_declare_more_than_they_hold_are_refused() {
    let nothing = [0; 32];
    // Of structures, strings, numbers, booleans; of more than readers count, and of as many as they do.
    for count in [(1 << 31) - 1, u64::MAX] {
        for wire in [1, 5, BINARY, STRUCT] {
            for path in [
                &[2][..],
                &[4],
                &[5],
                &[7],
                &[9],
                &[33],
                &[4, 0, 1],
                &[4, 0, 4],
                &[4, 0, 1, 0, 3, 2],
                &[4, 0, 1, 0, 3, 3],
                &[4, 0, 1, 0, 3, 13],
            ] {
                refused("a list", &with_field(path, huge_list(wire, count, &nothing)), WHOLE, "makes no sense");
            }
        }
    }
    // Lists of lists of booleans: readers that go past them take no byte for each, and hours for all.
    let mut bomb = Vec::new();
    for _ in 0..2000 {
        bomb.extend_from_slice(&[0xf1, 0xff, 0xff, 0xff, 0xff, 0x07]);
    }
    refused("booleans", &with_field(&[33], huge_list(LIST, 2000, &bomb)), WHOLE, "makes no sense");
    // The same hidden in what other readers take for fields, because they do not look at its type.
    let mut hidden = vec![0x19];
    hidden.extend_from_slice(&bomb);
    refused("hidden", &with_field(&meta(0, 0, 5), Value::Binary(hidden)), WHOLE, "makes no sense");
    for wire in [LIST, STRUCT, 11] {
        let deep = Value::Raw(wire, [0x10 | wire].repeat(30_000));
        refused("nested", &with_field(&[33], deep), WHOLE, "makes no sense");
    }
    let notes =
        (0..20).map(|n| super::made::structure([(1, text(&n.to_string())), (2, Value::Binary(vec![b'x'; 1 << 20]))]));
    refused("notes", &with_field(&[5], Value::List(STRUCT, notes.collect())), WHOLE, "bytes of notes");
    let empty = good(PLAIN).write_with(|f| {
        let Value::List(_, groups) = f.at(&[4]).clone() else { panic!("a list") };
        let mut group = groups[0].clone();
        group.set(&[3], 0);
        *f.at(&[4]) = Value::List(STRUCT, vec![group; 33_000]);
    });
    refused("row groups", &empty, WHOLE, "row groups; 32767 are the most");
}

#[test]
fn a_footer_that_is_longer_than_its_file_is_refused() {
    let whole = good(PLAIN).write();
    for length in [whole.len() as u32, whole.len() as u32 - 8, 1 << 30, u32::MAX] {
        let mut content = whole.clone();
        let at = content.len() - 8;
        content[at..at + 4].copy_from_slice(&length.to_le_bytes());
        refused("length", &content, WHOLE, "its footer declares");
    }
    let mut encrypted = whole.clone();
    *encrypted.last_mut().expect("bytes") = b'E';
    refused("encrypted", &encrypted, WHOLE, "encrypted");
    for length in 0..=8_u32 {
        let mut content = close(b"PAR1".to_vec(), &vec![0; length as usize]);
        refused("nothing", &content, WHOLE, "");
        content.truncate(11);
        refused("less", &content, WHOLE, "");
    }
}

#[test]
fn schemas_that_are_bombs_are_refused() {
    let with = |schema: Vec<Value>| with_field(&[2], Value::List(STRUCT, schema));
    let deep = |depth: usize| {
        let mut schema = vec![branch("records", 3), leaf(6, 1, "key"), leaf(2, 0, "n")];
        for level in 0..depth {
            let mut group = branch(&format!("g{level}"), 1);
            *group.at(&[3]) = Value::I32(1);
            schema.push(group);
        }
        schema.push(leaf(1, 1, "end"));
        schema
    };
    for depth in [100, 5000, 60_000] {
        refused("deep", &with(deep(depth)), WHOLE, "nested more than 100 times");
    }
    for children in [3, 1 << 20, i64::from(i32::MAX)] {
        let schema = vec![branch("records", children), leaf(6, 1, "key"), leaf(2, 0, "n")];
        refused("children", &with(schema), WHOLE, "");
    }
    refused(
        "orphans",
        &with(vec![branch("records", 1), leaf(6, 1, "key"), leaf(2, 0, "n")]),
        WHOLE,
        "belong to nothing",
    );
    refused("negative", &with(vec![branch("records", -1), leaf(6, 1, "key")]), WHOLE, "");
    refused("no schema", &with(Vec::new()), WHOLE, "");
    let mut wide = vec![branch("records", 120_000)];
    wide.extend((0..120_000).map(|n| leaf(1, 1, &n.to_string())));
    refused("wide", &with(wide), WHOLE, "more than 100000 columns");
    // A width that no row should take, whose values are all null.
    let mut fixed = leaf(7, 1, "key");
    *fixed.at(&[2]) = Value::I32(i64::from(i32::MAX));
    let place = Place::new();
    let content = with(vec![branch("records", 2), fixed, leaf(2, 0, "n")]);
    for paths in WAYS {
        look(&place, &content, paths).expect_err("its values are 2 GiB each");
    }
}

/// Symptom: the process is gone, without a word of which file it was. Cause: the reader made room for as many values as
/// a page of differences declares in its first bytes.
#[test]
fn differences_that_are_more_than_their_page_are_refused() {
    let head = |count: u64| {
        let mut bytes = vec![0x80, 0x01, 0x04];
        varint(count, &mut bytes);
        bytes.extend_from_slice(&[0x02, 0x02, 0, 0, 0, 0]);
        bytes
    };
    for count in [11, 1 << 20, 1 << 31, 1 << 40, 1 << 62] {
        for second in [false, true] {
            let form = Form { second, ..PLAIN };
            let n = (Some(1), Some("n"));
            page_lies("numbers", n, "differences in a page of 10 values", form, |made| {
                let body = Body { levels: Vec::new(), values: head(count) };
                *made.page(1, 1, 1) = form.data_page(PAGE, &body, 5);
            });
            let key = (Some(1), Some("key"));
            for (encoding, values) in [(6, head(count)), (7, head(count)), (7, [head(10), head(count)].concat())] {
                page_lies("strings", key, "differences in a page of 10 values", form, |made| {
                    let body = Body { levels: vec![(PAGE as u8) << 1, 1], values: values.clone() };
                    *made.page(1, 0, 2) = form.data_page(PAGE, &body, encoding);
                });
            }
        }
    }
}

#[test]
fn a_column_that_the_pipeline_does_not_use_may_be_damaged() {
    let mut pipeline = things(OnBadFile::Quarantine);
    pipeline.tables[0].columns.clear();
    pipeline.tables[1].columns.clear();
    let mut made = good(PLAIN);
    made.page(1, 1, 0).body.fill(0xff);
    made.page(1, 1, 0).header.set(&[5, 2], 77);
    let place = Place::new();
    for paths in WAYS {
        assert_eq!(look_with(&place, &made.write(), paths, &pipeline), Ok(Ok(40)), "nobody reads it");
        look(&place, &made.write(), paths).expect_err("it is read");
    }
}
