//! Takes up the new text files of a run: finds the types of their columns, and makes the copies. A file that cannot be
//! read is told apart, and has no part in the types: what is set aside must leave no trace.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::PathBuf;

use arrow::datatypes::DataType;
use seriatim_pipeline::ColumnType;

use super::csv::Csv;
use super::infer::Looks;
use super::json::{Count, Cursor, Json};
use super::path::steps;
use super::rows::{Reader, Row, Wrong};
use super::shape::{DEPTH, Found, Shape, Shapes, complete, put, put_published};
use super::{Form, Texts, declared, told};
use crate::error::{IngestError, Result};
use crate::plan::in_parallel;
use crate::project::Project;
use crate::source::{FileFacts, SourceFile, name_in_source, read_footer};

/// What the columns of a file look like, by the names that the pipeline uses.
type Survey = BTreeMap<String, Found>;

/// A file, or why it cannot be read.
pub(crate) type Taken = Result<FileFacts, IngestError>;

/// Takes up these files; their columns have the types `published`, as far as there are some. Their copies lie in `folder`,
/// which is scratch if nobody needs them when what is given back is gone.
pub(crate) fn take_up(
    project: &Project,
    files: &[SourceFile],
    published: &BTreeMap<String, DataType>,
    folder: PathBuf,
    is_scratch: bool,
    workers: usize,
) -> Result<(Texts, Vec<Taken>)> {
    let pipeline = project.pipeline();
    let mut texts = Texts::new(pipeline, project.folder(), folder, is_scratch);
    let settled = Settled::new(&pipeline.source.columns, published)?;
    let surveys = in_parallel(workers, files, |file| held(texts.survey(file, &settled)))?;
    let mut sound: Vec<Result<Survey, IngestError>> = surveys;
    loop {
        let found = sound.iter().filter_map(|survey| survey.as_ref().ok());
        texts.columns = settled.completed(found, pipeline.source.undeclared.is_inferred());
        let numbered: Vec<usize> = (0..files.len()).filter(|&index| sound[index].is_ok()).collect();
        let taken = in_parallel(workers, &numbered, |&index| held(texts.facts(&files[index])))?;
        let is_all = taken.iter().all(Result::is_ok);
        let mut facts = BTreeMap::new();
        for (index, taken) in numbered.into_iter().zip(taken) {
            match taken {
                Ok(found) => drop(facts.insert(index, found)),
                Err(error) => sound[index] = Err(error),
            }
        }
        if !is_all {
            continue;
        }
        let mut all = Vec::with_capacity(files.len());
        for (index, survey) in sound.into_iter().enumerate() {
            all.push(match (facts.remove(&index), survey) {
                (Some(found), _) => Ok(found),
                (None, Err(error)) => Err(error),
                (None, Ok(_)) => return Err(IngestError::internal("a text file was not taken up")),
            });
        }
        return Ok((texts, all));
    }
}

/// An error of a file is that file's; any other one ends it all.
fn held<T>(done: Result<T>) -> Result<Result<T>> {
    match done {
        Err(error) if error.file.is_none() => Err(error),
        done => Ok(done),
    }
}

/// What is known of columns before a file is read.
struct Settled<'a> {
    columns: Shapes,
    declared: &'a BTreeMap<String, ColumnType>,
}

impl<'a> Settled<'a> {
    fn new(types: &'a BTreeMap<String, ColumnType>, published: &BTreeMap<String, DataType>) -> Result<Self> {
        let mut columns = Shapes::new();
        for (path, kind) in types {
            let steps = steps(path);
            if steps.len() > DEPTH || !put(&mut columns, &steps, &declared(*kind)) {
                return Err(IngestError::pipeline(format!(
                    "`source.columns`: '{path}' lies too deep, or within another column that has a type"
                ))
                .help("declare the types of members, as `page.path`, or of the whole, as `page: string`, which is its JSON"));
            }
        }
        put_published(&mut columns, published);
        Ok(Self { columns, declared: types })
    }

    /// A column, if it is settled what it is. A declared type is also that of a column that has all of a path as its name.
    fn column(&self, name: &str) -> Option<Shape> {
        let own = self.declared.get(name).filter(|_| steps(name).len() > 1);
        own.map(|kind| Shape::Leaf(declared(*kind))).or_else(|| self.columns.get(name).cloned())
    }

    /// All columns: of what is not settled, what all files together look like.
    fn completed<'s>(&self, surveys: impl Iterator<Item = &'s Survey>, infers: bool) -> Shapes {
        let mut found = Survey::new();
        for (name, one) in surveys.flatten() {
            found.entry(name.clone()).or_default().add(one);
        }
        let mut columns = self.columns.clone();
        columns.extend(found.keys().filter_map(|name| Some((name.clone(), self.column(name)?))));
        complete(&mut columns, &found, infers);
        columns
    }
}

impl Texts {
    /// Looks at all values of a file, as far as types are to be found.
    fn survey(&self, file: &SourceFile, settled: &Settled<'_>) -> Result<Survey> {
        let form = self.form(&file.name).ok_or_else(|| IngestError::internal("a text file is none"))?;
        let found = match self.reader(file, form)? {
            Reader::Csv(csv) => self.look_at_csv(csv, settled),
            Reader::Json(json) => self.look_at_json(json, settled),
        };
        let mut survey = Survey::new();
        for (name, found) in found.map_err(|wrong| told(file, wrong))? {
            survey.entry(name_in_source(&name, &self.source.rename).to_owned()).or_default().add(&found);
        }
        Ok(survey)
    }

    fn look_at_csv(&self, mut csv: Csv<impl BufRead>, settled: &Settled<'_>) -> Result<Survey, Wrong> {
        let names = csv.names().to_vec();
        let mut looks = vec![Looks::default(); names.len()];
        let is_settled = |name: &String| settled.column(name_in_source(name, &self.source.rename)).is_some();
        let is_known = !self.source.undeclared.is_inferred() || names.iter().all(is_settled);
        let mut row = Row::default();
        while !is_known && csv.next(&mut row)? {
            for (cell, value) in row.values() {
                let is_null = !cell.is_quoted && value == self.source.csv.null.as_bytes();
                let looks = &mut looks[cell.column];
                if !is_null && !looks.is_text() {
                    // What is not UTF-8 is told when it is read.
                    *looks |= std::str::from_utf8(value).map_or(Looks::TEXT, Looks::of);
                }
            }
        }
        Ok(names.into_iter().zip(looks).map(|(name, looks)| (name, Found { looks, ..Found::default() })).collect())
    }

    fn look_at_json(&self, mut json: Json<impl BufRead>, settled: &Settled<'_>) -> Result<Survey, Wrong> {
        let (mut row, mut found, mut count) = (Row::default(), Found::default(), Count::default());
        while json.next(&mut row)? {
            let text = row.text().unwrap_or_default();
            let column = |name: &str| settled.columns.get(name_in_source(name, &self.source.rename));
            let looked = found.look_into(&mut Cursor::new(text), column, 0, &mut count);
            looked.map_err(|fault| json.fault(&fault))?;
        }
        Ok(found.members)
    }

    /// Makes the copy of a file, if it is not there, and says what its footer says.
    fn facts(&self, file: &SourceFile) -> Result<FileFacts> {
        let form = self.form(&file.name).ok_or_else(|| IngestError::internal("a text file is none"))?;
        let footer = self.footer(file, form)?;
        let rows = footer.metadata().file_metadata().num_rows().max(0) as u64;
        Ok(FileFacts { file: SourceFile { rows, ..file.clone() }, footer })
    }

    /// What the footer of a file's copy says.
    pub(crate) fn footer(
        &self,
        file: &SourceFile,
        form: Form,
    ) -> Result<parquet::arrow::arrow_reader::ArrowReaderMetadata> {
        let copy = self.open(file, form)?;
        let bytes = copy
            .metadata()
            .map_err(|e| IngestError::io("look at the copy of", std::path::Path::new(&file.name), &e))?
            .len();
        read_footer(&file.name, &copy, bytes)
    }
}
