//! Source files whose bytes are wrong in ways that only the values show: each is one error that names the file and says
//! that it is damaged, whichever way the columns are read, and nothing is published. The files are written value by
//! value, because no Arrow array would hold such values.

use std::fs::{self, File};
use std::sync::Arc;

use parquet::basic::Encoding;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use seriatim_ingest::{Paths, RunnerOptions};
use seriatim_pipeline::model::Pipeline;

use crate::cells::Cell;
use crate::harness::{Failed, Place, audit, keyed, options, pipeline, run};
use crate::outputs::{assert_same_tree, read_table, tree};

/// How the strings of a file are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pages {
    Dictionary,
    Plain,
    /// A dictionary first, and plain pages after it.
    Both,
}

/// Writes `data/<name>` with the columns `key`, a string by its annotation, and `n`; a row group for each list of keys.
fn write_bytes(place: &Place, name: &str, groups: &[Vec<&[u8]>], pages: Pages) {
    let schema = "message records { REQUIRED BYTE_ARRAY key (STRING); REQUIRED INT64 n; }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let limit = if pages == Pages::Both { 40 } else { 1 << 20 };
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(pages != Pages::Plain)
        .set_dictionary_page_size_limit(limit)
        .set_write_batch_size(1)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let path = place.path().join("data").join(name);
    fs::create_dir_all(path.parent().expect("in a folder")).expect("folders can be made");
    let file = File::create(&path).expect("the file can be made");
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).expect("a writer");
    for keys in groups {
        let mut group = writer.next_row_group().expect("a row group");
        let mut column = group.next_column().expect("a writer").expect("the first column");
        let values: Vec<ByteArray> = keys.iter().map(|key| ByteArray::from(key.to_vec())).collect();
        column.typed::<ByteArrayType>().write_batch(&values, None, None).expect("the keys can be written");
        column.close().expect("the column can be finished");
        let mut column = group.next_column().expect("a writer").expect("the second column");
        let numbers: Vec<i64> = (0..keys.len() as i64).collect();
        column.typed::<Int64Type>().write_batch(&numbers, None, None).expect("the numbers can be written");
        column.close().expect("the column can be finished");
        group.close().expect("the row group can be finished");
    }
    writer.close().expect("the file can be finished");
    assert_eq!(encodings(&path), (pages != Pages::Plain, pages != Pages::Dictionary), "what the test is about");
}

/// Whether a file's keys lie in dictionary pages and in plain ones; the last row group tells.
fn encodings(path: &std::path::Path) -> (bool, bool) {
    let reader = SerializedFileReader::new(File::open(path).expect("the file is there")).expect("a Parquet file");
    let last = reader.get_row_group(reader.num_row_groups() - 1).expect("a row group");
    let mut pages = last.get_column_page_reader(0).expect("pages");
    let mut found = (false, false);
    while let Some(page) = pages.get_next_page().expect("a page") {
        if page.is_data_page() {
            found.0 |= page.encoding() == Encoding::RLE_DICTIONARY || page.encoding() == Encoding::PLAIN_DICTIONARY;
            found.1 |= page.encoding() == Encoding::PLAIN;
        }
    }
    found
}

fn things() -> Pipeline {
    let lines = keyed("lines", &[], &["things"], &["n"]);
    pipeline(vec![keyed("things", &["key"], &[], &["n"]), lines])
}

fn by(paths: Paths) -> RunnerOptions {
    RunnerOptions { paths, ..options(2) }
}

/// The run fails for a damaged `b.parquet` and changes nothing.
fn fails_as_damaged(place: &Place, paths: Paths, what: &str) -> Failed {
    let before = tree(&place.output());
    let failed = run(place, &things(), &by(paths)).expect_err(what);
    assert!(failed.message.contains("b.parquet"), "{what}: the error names the file: {failed:?}");
    assert!(failed.help.contains("damaged"), "{what}: the error says what is wrong: {failed:?}");
    assert_same_tree(&before, &tree(&place.output()), &what);
    failed
}

#[test]
fn a_key_that_is_no_valid_string_is_told_alike_whichever_way_it_is_read() {
    let good: Vec<&[u8]> = vec!["a longer first key".as_bytes(), "ä".as_bytes(), b"", b"b", b"and so on", b"c"];
    // The second one is valid as a whole: a character begins in one value and ends in the next.
    let damages: [(&str, &[&[u8]]); 4] = [
        ("bytes that no character has", &[b"x\xff\xfey"]),
        ("a character cut in two", &[b"x\xc3", b"\xa4y"]),
        ("a character that is not finished", &[b"\xe6\x97"]),
        ("half a surrogate pair", &[b"\xed\xa0\x80"]),
    ];
    for (damage, bad) in damages {
        for pages in [Pages::Dictionary, Pages::Plain, Pages::Both] {
            let mut failures = Vec::new();
            for paths in [Paths::Pages, Paths::General] {
                let what = format!("{damage}, {pages:?}, {paths:?}");
                let place = Place::new();
                write_bytes(&place, "a.parquet", std::slice::from_ref(&good), Pages::Dictionary);
                run(&place, &things(), &by(paths)).expect("the first run is done");
                let groups = [good.clone(), [good.as_slice(), bad, good.as_slice()].concat()];
                write_bytes(&place, "b.parquet", &groups, pages);
                failures.push(fails_as_damaged(&place, paths, &what));

                // Written again and right, the file goes in, and no ID is missing.
                let mended: Vec<&[u8]> = good.iter().copied().chain([&b"mended"[..]]).collect();
                write_bytes(&place, "b.parquet", &[good.clone(), mended], Pages::Dictionary);
                run(&place, &things(), &by(paths)).expect("the mended file goes in");
                let last = read_table(&place.output().join("things")).rows.pop().expect("rows");
                assert_eq!(last[..2], [Cell::Int(7), Cell::Text("mended".to_owned())], "{what}");
                audit(&place, &things(), 2).expect("the audit passes");
            }
            assert_eq!(failures[0].exit_code, failures[1].exit_code, "{damage}, {pages:?}");
            assert_eq!(failures[0].help, failures[1].help, "{damage}, {pages:?}");
        }
    }
}
