//! Lists the way old writers made them. Some readers take them for something else, and one gives none of the six rows of
//! such a file without a word. All rows come out, or the file is named.

use std::fs::File;
use std::sync::Arc;

use parquet::data_type::{Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use seriatim_pipeline::model::OnBadFile;

use super::{WAYS, by, look_with};
use crate::harness::{Place, audit, keyed, pipeline, run};
use crate::outputs::read_table;

/// Six rows of `n`, and a list in each; of the list's leaf the definition and repetition levels.
fn write(place: &Place, list: &str, definition: &[i16], repetition: &[i16], most: i16) {
    let schema = format!("message records {{ REQUIRED INT64 n; {list} }}");
    let schema = Arc::new(parse_message_type(&schema).expect("a schema"));
    std::fs::create_dir_all(place.path().join("data")).expect("a folder can be made");
    let file = File::create(place.path().join("data/b.parquet")).expect("the file can be made");
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::default())).expect("a writer");
    let mut group = writer.next_row_group().expect("a row group");
    let mut column = group.next_column().expect("a writer").expect("the first column");
    column.typed::<Int64Type>().write_batch(&[0, 1, 2, 3, 4, 5], None, None).expect("six numbers");
    column.close().expect("the column can be finished");
    let mut column = group.next_column().expect("a writer").expect("the second column");
    let values: Vec<i32> = (0..definition.iter().filter(|&&level| level == most).count() as i32).collect();
    column.typed::<Int32Type>().write_batch(&values, Some(definition), Some(repetition)).expect("the lists");
    column.close().expect("the column can be finished");
    group.close().expect("the row group can be finished");
    writer.close().expect("the file can be finished");
}

#[test]
fn legacy_lists_give_all_rows_or_an_error() {
    // One, two, none, three, none, one element.
    let (one, repeated): (&[i16], &[i16]) = (&[1, 1, 1, 0, 1, 1, 1, 0, 1], &[0, 0, 1, 0, 0, 1, 1, 0, 0]);
    let (two, three): (Vec<i16>, Vec<i16>) = one.iter().map(|level| (level * 2, level * 3)).unzip();
    let forms: [(&str, &[i16], i16); 7] = [
        ("REPEATED INT32 l;", one, 1),
        ("OPTIONAL group l (LIST) { REPEATED INT32 element; }", &two, 2),
        ("OPTIONAL group l (LIST) { REPEATED group array { REQUIRED INT32 x; } }", &two, 2),
        ("OPTIONAL group l (LIST) { REPEATED group l_tuple { REQUIRED INT32 x; } }", &two, 2),
        ("OPTIONAL group l (LIST) { REPEATED group list { OPTIONAL INT32 element; } }", &three, 3),
        ("OPTIONAL group l (LIST) { REPEATED group bag { OPTIONAL INT32 array_element; } }", &three, 3),
        ("REQUIRED group l { REPEATED INT32 x; }", one, 1),
    ];
    for (list, definition, most) in forms {
        for paths in WAYS {
            let place = Place::new();
            write(&place, list, definition, repeated, most);
            let content = std::fs::read(place.path().join("data/b.parquet")).expect("the file is there");
            let mut lists = pipeline(vec![keyed("lines", &[], &[], &["n", "l"])]);
            lists.source.on_bad_file = OnBadFile::Quarantine;
            match look_with(&place, &content, paths, &lists) {
                Ok(Ok(rows)) => assert_eq!(rows, 6, "{list} {paths:?}"),
                Ok(Err(bad)) => assert!(bad.what.reason.contains("rows"), "{list} {paths:?}: {bad:?}"),
                // The pipeline may not take such a column.
                Err(message) => assert!(message.contains("'l'"), "{list} {paths:?}: {message}"),
            }
            if let Ok(report) = run(&place, &lists, &by(paths))
                && report.aside.is_empty()
            {
                assert_eq!(read_table(&place.output().join("lines")).files, 1, "{list} {paths:?}");
                assert_eq!((report.records, report.tables[0].rows), (6, 6), "{list} {paths:?}");
                audit(&place, &lists, 2).expect("the audit passes");
            }
        }
    }
}
