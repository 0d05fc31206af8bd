//! Files that exist beside the source, from which IDs go on: what they are, and the columns that are wanted of them. They are
//! listed and read as the source is, local files and objects alike. Must never write, and never take a file for the one
//! that was planned without having looked.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::{CastOptions, cast_with_options, max, min};
use arrow::datatypes::{DataType, Int64Type};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use seriatim_pipeline::model::{Pipeline, Source, SourceFormat};

use crate::checks::Checks;
use crate::context::RunContext;
use crate::drift::{Drift, SourceTypes};
use crate::error::{IngestError, Result};
use crate::layout::Layout;
use crate::plan::{Bound, Cut, Paths, Plan, cut_file, in_parallel};
use crate::progress::Progress;
use crate::project::Project;
use crate::source::{FileFacts, Found, Records, SourceFile, file_facts, list};

/// Which files are meant, and where the pipeline says so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The setting, for messages: `tables.customers.adopt`.
    pub(crate) setting: &'a str,
    pub(crate) files: &'a [String],
    pub(crate) columns: &'a [&'a str],
}

/// Files that exist, open to be read.
pub(crate) struct Existing {
    look: RunContext,
    footers: Vec<Arc<ParquetMetaData>>,
}

impl Existing {
    /// Lists the files and reads their footers; each must have all the columns.
    pub(crate) fn find(project: &Project, wanted: &Wanted<'_>, folder: PathBuf) -> Result<Self> {
        let listing = list(project.folder(), wanted.files, Some(SourceFormat::Parquet), wanted.setting)?;
        if listing.files.is_empty() {
            return Err(IngestError::input(format!("no file matches '{}'", wanted.files.join("', '"))).help(format!(
                "correct `{}`; relative paths start at {}",
                wanted.setting,
                project.folder().display()
            )));
        }
        let listed: Vec<(String, Found)> = listing.files.into_iter().collect();
        let threads = if listed.iter().any(|(_, found)| found.is_object()) { OBJECTS_AT_ONCE } else { 1 };
        let facts = in_parallel(threads, &listed, |(name, found)| match found {
            Found::Local(path) => file_facts(name, path, false),
            Found::Object(object) => object.facts(name),
        })?;
        Self::of(project, wanted, facts, folder)
    }

    /// The same files as before: an error if one has changed since.
    pub(crate) fn again(project: &Project, wanted: &Wanted<'_>, files: &[SourceFile], folder: PathBuf) -> Result<Self> {
        let now = Self::find(project, wanted, folder)?;
        let same = now.look.plan.files.len() == files.len()
            && now.look.plan.files.iter().zip(files).all(|(now, before)| now.is_same(before));
        if same {
            return Ok(now);
        }
        Err(IngestError::input(format!("the files of `{}` have changed since the run was planned", wanted.setting))
            .help("leave them as they are while the first run is under way; run again, which plans anew"))
    }

    fn of(project: &Project, wanted: &Wanted<'_>, facts: Vec<FileFacts>, folder: PathBuf) -> Result<Self> {
        for file in &facts {
            for column in wanted.columns {
                if file.schema().field_with_name(column).is_err() {
                    return Err(no_column(wanted.setting, file, column));
                }
            }
        }
        let Some(first) = facts.first() else { return Err(IngestError::internal("there is no file to open")) };
        // Its files are none of the source's, and have nothing of what is said of those.
        let pipeline = Pipeline {
            source: Source { files: wanted.files.to_vec(), ..Source::default() },
            transform: None,
            lookups: Vec::new(),
            checks: Vec::new(),
            tables: Vec::new(),
            ..project.pipeline().clone()
        };
        let records = Records::new(first.schema(), &pipeline, &Arc::default())?;
        let footers: Vec<Arc<ParquetMetaData>> = facts.iter().map(|facts| facts.footer.metadata().clone()).collect();
        let cut = Cut { chunk_rows: CHUNK_ROWS, shards: 1, paths: Paths::General };
        let chunks = (0..).zip(&footers).flat_map(|(index, footer)| cut_file(index, footer, cut, 1)).collect();
        let known = (0..).zip(&facts).map(|(index, facts)| (index, facts.footer.clone())).collect();
        let plan = Plan {
            run: "existing".to_owned(),
            owner: String::new(),
            pipeline,
            folder: project.folder().to_owned(),
            files: facts.into_iter().map(|facts| facts.file).collect(),
            files_known: 0,
            aside: Vec::new(),
            aside_known: 0,
            adopted: Vec::new(),
            lookups: Vec::new(),
            source_columns: Vec::new(),
            replayed: Vec::new(),
            drift: Drift::default(),
            texts: SourceTypes::new(),
            chunks,
            spans: Vec::new(),
            parts: Vec::new(),
            shards: 1,
            file_rows: 0,
            table_rows: Vec::new(),
            paths: Paths::General,
        };
        let bound = Bound {
            records,
            layout: Layout { tables: Vec::new(), lists: Vec::new(), checks: Checks::default() },
            footers: known,
            texts: None,
        };
        let look = RunContext::new(plan, bound, &project.state(), u64::MAX, Arc::new(Progress::default()));
        Ok(Self { look: look.for_a_look(folder), footers })
    }

    /// The files.
    pub(crate) fn files(&self) -> &[SourceFile] {
        &self.look.plan.files
    }

    /// How many rows they have.
    pub(crate) fn rows(&self) -> u64 {
        self.files().iter().map(|file| file.rows).sum()
    }

    /// Calls `visit` with these columns of each part of the files, in order, and where the part begins.
    pub(crate) fn each(
        &self,
        columns: &[String],
        mut visit: impl FnMut(&[ArrayRef], &Place<'_>) -> Result<()>,
    ) -> Result<()> {
        for index in 0..self.look.plan.chunks.len() as u32 {
            let chunk = &self.look.plan.chunks[index as usize];
            let file = &self.files()[chunk.file as usize].name;
            let batch = self.look.read_source(index, columns)?;
            visit(batch.columns(), &Place { file, first_row: chunk.first_row })?;
        }
        Ok(())
    }

    /// The smallest and the largest number of a column; `None` if there is none.
    pub(crate) fn extremes(&self, column: &str) -> Result<Option<(i64, i64)>> {
        let mut found: Option<(i64, i64)> = None;
        let mut add = |(low, high): (i64, i64)| {
            found = Some(found.map_or((low, high), |(least, most)| (least.min(low), most.max(high))));
        };
        let names = [column.to_owned()];
        for (index, chunk) in (0..).zip(&self.look.plan.chunks) {
            let footer = &self.footers[chunk.file as usize];
            let groups = chunk.row_groups().map(|group| declared(footer.row_group(group), column));
            if let Some(groups) = groups.collect::<Option<Vec<_>>>() {
                groups.into_iter().flatten().for_each(&mut add);
                continue;
            }
            let batch = self.look.read_source(index, &names)?;
            let place = Place { file: &self.files()[chunk.file as usize].name, first_row: chunk.first_row };
            let numbers = numbers(batch.column(0), column, &place)?;
            if let Some(both) = min(&numbers).zip(max(&numbers)) {
                add(both);
            }
        }
        Ok(found)
    }
}

/// Rows that are read at once.
const CHUNK_ROWS: u32 = 131_072;
/// Objects whose footers are read at once.
const OBJECTS_AT_ONCE: usize = 12;

/// Where a part of the files is.
pub(crate) struct Place<'a> {
    pub(crate) file: &'a str,
    pub(crate) first_row: u64,
}

impl Place<'_> {
    /// A row of the part, for people.
    pub(crate) fn row(&self, row: usize) -> String {
        format!("{}, row {}", self.file, self.first_row + row as u64)
    }
}

fn no_column(setting: &str, file: &FileFacts, column: &str) -> IngestError {
    let names: Vec<&str> = file.schema().fields().iter().map(|field| field.name().as_str()).collect();
    let error = IngestError::input(format!("{} has no column '{column}', which `{setting}` needs", file.file.name));
    error.help(match seriatim_pipeline::nearest(column, names.iter().copied()) {
        Some(near) => format!("did you mean '{near}'? name the column in `{setting}`"),
        None => format!("name the column in `{setting}`; there are: {}", names.join(", ")),
    })
}

/// Whole numbers of 64 bits, whatever their width in the file.
pub(crate) fn numbers(values: &ArrayRef, column: &str, place: &Place<'_>) -> Result<Int64Array> {
    if !values.data_type().is_integer() {
        return Err(IngestError::input(format!(
            "column '{column}' is a {} in {}, and IDs are whole numbers",
            values.data_type(),
            place.file
        ))
        .help("name the column of the numbers"));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = cast_with_options(values, &DataType::Int64, &options);
    let cast = cast.map_err(|_| {
        IngestError::input(format!("an ID in {} is larger than 64 bits with a sign can hold", place.row(0)))
            .help("Seriatim's IDs go up to 9223372036854775807")
    })?;
    Ok(cast.as_primitive::<Int64Type>().clone())
}

/// The least and the greatest number of a row group as its footer declares them exactly: `Some(None)` if all are null,
/// `None` if the footer does not say it, or not of a column of signed numbers.
#[expect(clippy::option_option, reason = "not said, none, and some are three things")]
fn declared(group: &RowGroupMetaData, column: &str) -> Option<Option<(i64, i64)>> {
    let of = group.columns().iter().find(|chunk| chunk.column_path().parts() == [column])?;
    if !is_signed(of.column_descr()) {
        return None;
    }
    let statistics = of.statistics()?;
    let ends = match statistics {
        Statistics::Int32(ends) if statistics.min_is_exact() && statistics.max_is_exact() => {
            ends.min_opt().map(|&low| i64::from(low)).zip(ends.max_opt().map(|&high| i64::from(high)))
        }
        Statistics::Int64(ends) if statistics.min_is_exact() && statistics.max_is_exact() => {
            ends.min_opt().copied().zip(ends.max_opt().copied())
        }
        _ => None,
    };
    let all_null = statistics.null_count_opt().and_then(|nulls| i64::try_from(nulls).ok()) == Some(group.num_rows());
    match ends {
        Some(ends) => Some(Some(ends)),
        None if all_null => Some(None),
        None => None,
    }
}

/// Whether a column holds plain signed numbers: of others the footer may order the values in another way.
fn is_signed(column: &parquet::schema::types::ColumnDescriptor) -> bool {
    use parquet::basic::{ConvertedType, LogicalType, Type};
    let plain = match column.logical_type_ref() {
        None => matches!(
            column.converted_type(),
            ConvertedType::NONE
                | ConvertedType::INT_8
                | ConvertedType::INT_16
                | ConvertedType::INT_32
                | ConvertedType::INT_64
        ),
        Some(LogicalType::Integer(number)) => number.is_signed,
        Some(_) => false,
    };
    plain && matches!(column.physical_type(), Type::INT32 | Type::INT64)
}
