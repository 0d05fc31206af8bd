//! The events themselves, as OpenLineage writes them. Names of datasets follow its naming rules: a local file has the
//! namespace `file` and its path, an object the store's address and its key. Must never say what the report does not.

use std::path::Path;

use serde_json::{Map, Value, json};
use seriatim_ingest::{CheckOutcome, Project, RunReport, RunStatus, TableReport};
use seriatim_pipeline::OutputColumn;
use seriatim_pipeline::model::{Pipeline, Severity, Table};
use uuid::Uuid;

const EVENT: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
const FACETS: &str = "https://openlineage.io/spec/facets";

/// A pipeline as OpenLineage's job.
#[derive(Debug)]
pub(super) struct Job {
    namespace: String,
    pipeline: Pipeline,
    /// The source's files.
    inputs: Vec<Dataset>,
    /// Those of look-ups.
    lookups: Vec<Dataset>,
    folder: std::path::PathBuf,
}

/// A dataset's name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Dataset {
    namespace: String,
    name: String,
}

impl Dataset {
    /// What a path or a URL means; a relative path starts at `folder`.
    fn new(place: &str, folder: &Path) -> Self {
        let place = place.strip_prefix("file://").unwrap_or(place);
        if let Some((scheme, rest)) = place.split_once("://") {
            let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
            return Self { namespace: format!("{scheme}://{authority}"), name: name.to_owned() };
        }
        Self { namespace: "file".to_owned(), name: folder.join(place).to_string_lossy().into_owned() }
    }

    fn below(&self, name: &str) -> Self {
        let name = format!("{}/{name}", self.name.trim_end_matches('/'));
        Self { namespace: self.namespace.clone(), name: name.trim_start_matches("./").to_owned() }
    }
}

/// A facet, which says by whom it is and what its schema is.
fn facet(schema: &str, mut content: Value) -> Value {
    if let Value::Object(object) = &mut content {
        object.insert("_producer".to_owned(), producer());
        object.insert("_schemaURL".to_owned(), json!(format!("{FACETS}/{schema}")));
    }
    content
}

fn producer() -> Value {
    json!(concat!("urn:seriatim:", env!("CARGO_PKG_VERSION")))
}

impl Job {
    pub(super) fn new(project: &Project, namespace: String) -> Self {
        let pipeline = project.pipeline().clone();
        let named = |place: &String| Dataset::new(place, project.folder());
        let inputs = pipeline.source.files.iter().map(named).collect();
        let lookups = pipeline.lookups.iter().flat_map(|lookup| &lookup.files).map(named).collect();
        Self { namespace, inputs, lookups, folder: project.folder().to_owned(), pipeline }
    }

    pub(super) fn begun(&self, report: &RunReport) -> Value {
        let kind = if report.resumed { "RUNNING" } else { "START" };
        self.event(kind, report, &self.inputs(&[]), &Vec::new(), Map::new())
    }

    pub(super) fn ended(&self, report: &RunReport) -> Value {
        let kind = match report.status {
            RunStatus::Done | RunStatus::NothingToDo => "COMPLETE",
            RunStatus::Cancelled => "ABORT",
            RunStatus::Failed => "FAIL",
            RunStatus::Running | RunStatus::Interrupted => "OTHER",
        };
        let mut facets = Map::new();
        if let Some(error) = &report.error {
            let content = json!({"message": error, "programmingLanguage": "Rust"});
            facets.insert("errorMessage".to_owned(), facet("1-0-1/ErrorMessageRunFacet.json", content));
        }
        let outputs: Vec<Value> = report.tables.iter().filter_map(|table| self.output(table)).collect();
        self.event(kind, report, &self.inputs(&report.checks), &outputs, facets)
    }

    fn event(
        &self,
        kind: &str,
        report: &RunReport,
        inputs: &[Value],
        outputs: &[Value],
        mut run: Map<String, Value>,
    ) -> Value {
        let engine = json!({"name": "Seriatim", "version": env!("CARGO_PKG_VERSION")});
        run.insert("processing_engine".to_owned(), facet("1-1-1/ProcessingEngineRunFacet.json", engine));
        // Whoever takes a run up tells of the same one: its name and its beginning stay.
        let id = format!("seriatim/{}/{}/{}", report.output, report.run, report.started);
        let mut job = Map::new();
        let kind_of_job = json!({"processingType": "BATCH", "integration": "SERIATIM", "jobType": "PIPELINE"});
        job.insert("jobType".to_owned(), facet("2-0-3/JobTypeJobFacet.json", kind_of_job));
        if let Some(sql) = &self.pipeline.transform {
            job.insert("sql".to_owned(), facet("1-0-1/SQLJobFacet.json", json!({"query": sql})));
        }
        json!({
            "eventType": kind,
            "eventTime": report.ended.clone().unwrap_or_else(|| report.started.clone()),
            "producer": producer(),
            "schemaURL": EVENT,
            "run": {"runId": Uuid::new_v5(&Uuid::NAMESPACE_URL, id.as_bytes()), "facets": run},
            "job": {"namespace": self.namespace, "name": self.pipeline.name, "facets": job},
            "inputs": inputs,
            "outputs": outputs,
        })
    }

    /// The source, with how its records did in the pipeline's checks, and the look-ups.
    fn inputs(&self, checks: &[CheckOutcome]) -> Vec<Value> {
        let assertion = |check: &CheckOutcome| {
            let severity = if check.severity == Severity::Warn { "warn" } else { "error" };
            json!({"assertion": check.check, "success": check.failed == 0, "severity": severity})
        };
        let assertions: Vec<Value> = checks.iter().map(assertion).collect();
        let input = |dataset: &Dataset| {
            let mut facets = Map::new();
            if !assertions.is_empty() {
                let content = json!({"assertions": assertions});
                let schema = "1-0-2/DataQualityAssertionsDatasetFacet.json";
                facets.insert("dataQualityAssertions".to_owned(), facet(schema, content));
            }
            json!({"namespace": dataset.namespace, "name": dataset.name, "inputFacets": facets})
        };
        let lookup = |dataset: &Dataset| json!({"namespace": dataset.namespace, "name": dataset.name});
        self.inputs.iter().map(input).chain(self.lookups.iter().map(lookup)).collect()
    }

    fn output(&self, report: &TableReport) -> Option<Value> {
        let table = self.pipeline.table(&report.table)?;
        let dataset = Dataset::new(&self.pipeline.output.path, &self.folder).below(&report.table);
        let columns = self.pipeline.output_columns(table);
        // A field of a struct is called by the end of its path, which the run knows and the pipeline does not.
        let called = |at: usize| report.columns.get(at).map_or(columns[at].name(), String::as_str);
        let names: Vec<&str> = (0..columns.len()).map(called).collect();
        let fields: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        let mut facets = Map::new();
        facets.insert("schema".to_owned(), facet("1-1-1/SchemaDatasetFacet.json", json!({"fields": fields})));
        // With a transform, which source column a column is made of is the SQL's affair. Of a table of elements, only who
        // knows the lists can tell which columns are the element's and which its record's.
        if self.pipeline.transform.is_none() && table.from.is_none() {
            let lineage = json!({"fields": self.column_lineage(table, &columns, &names)});
            facets.insert("columnLineage".to_owned(), facet("1-2-0/ColumnLineageDatasetFacet.json", lineage));
        }
        let statistics = json!({"rowCount": report.rows, "size": report.bytes, "fileCount": report.files.len()});
        let statistics = facet("1-0-2/OutputStatisticsOutputDatasetFacet.json", statistics);
        Some(json!({
            "namespace": dataset.namespace,
            "name": dataset.name,
            "facets": facets,
            "outputFacets": {"outputStatistics": statistics},
        }))
    }

    /// For each column the source columns that decide its values: an ID those of its key, a reference those of the other
    /// table's.
    fn column_lineage(&self, table: &Table, columns: &[OutputColumn], names: &[&str]) -> Map<String, Value> {
        let fields = |names: &[String]| {
            let mut found = Vec::new();
            for name in names {
                let of = |i: &Dataset| json!({"namespace": i.namespace, "name": i.name, "field": name});
                found.extend(self.inputs.iter().map(of));
            }
            json!({"inputFields": found})
        };
        let of_column = |column: &OutputColumn| match column {
            OutputColumn::Key { name } | OutputColumn::Column { name } => fields(std::slice::from_ref(name)),
            OutputColumn::Reference { table, .. } => fields(self.pipeline.table(table).map_or(&[], |t| &t.key)),
            OutputColumn::Version { from: Some(from), .. } => fields(std::slice::from_ref(from)),
            _ => fields(&table.key),
        };
        columns.iter().zip(names).map(|(column, name)| ((*name).to_owned(), of_column(column))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datasets_are_named_by_the_rules() {
        let name = |place: &str| {
            let dataset = Dataset::new(place, Path::new("/data/shop")).below("orders");
            (dataset.namespace, dataset.name)
        };
        let named = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        assert_eq!(name("out"), named("file", "/data/shop/out/orders"));
        assert_eq!(name("/else/out/"), named("file", "/else/out/orders"));
        assert_eq!(name("s3://bucket/a/out"), named("s3://bucket", "a/out/orders"));
        assert_eq!(
            name("abfss://c@account.dfs.core.windows.net/out"),
            named("abfss://c@account.dfs.core.windows.net", "out/orders")
        );
    }
}
