//! What SQL may name besides columns: the table `source` and the look-ups, the function library, and the session
//! settings, which are pinned so that no machine's configuration reaches a result. Functions that
//! read a clock, chance or a file's name are known here only to be refused by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, Result, TableReference, plan_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::planner::{ContextProvider, ExprPlanner, PlannerResult, RawFieldAccessExpr};
use datafusion_expr::{
    AggregateUDF, GetFieldAccess, HigherOrderUDF, ScalarUDF, TableSource, Volatility, WindowUDF, lit,
};
use datafusion_functions::core::planner::CoreFunctionPlanner;
use datafusion_functions::datetime::planner::DatetimeFunctionPlanner;
use datafusion_functions::unicode::planner::UnicodeFunctionPlanner;

use crate::lookup::Lookup;
use crate::types;

/// The name of the table of records.
pub(crate) const SOURCE: &str = "source";

/// Declared deterministic by the library, but not the same in every release of this program.
const UNSTABLE: &[&str] = &["version"];

const AGGREGATES: &[&str] = &[
    "any_value",
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar",
    "covar_pop",
    "covar_samp",
    "every",
    "grouping",
    "group_concat",
    "listagg",
    "max",
    "mean",
    "median",
    "min",
    "mode",
    "percentile_cont",
    "regr_slope",
    "some",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "var",
    "var_pop",
    "var_samp",
    "variance",
];

const WINDOWS: &[&str] = &[
    "cume_dist",
    "dense_rank",
    "first_value",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "ntile",
    "percent_rank",
    "rank",
    "row_number",
];

/// Not in the library, but known elsewhere and never row-wise.
const IMPURE: &[&str] = &[
    "clock_timestamp",
    "current_user",
    "getdate",
    "getutcdate",
    "localtime",
    "localtimestamp",
    "newid",
    "nextval",
    "currval",
    "rand",
    "session_user",
    "setval",
    "sysdate",
    "sysdatetime",
    "today",
    "user",
    "uuid_generate_v4",
    "gen_random_uuid",
];

const EXPANDING: &[&str] = &["explode", "flatten", "generate_series", "range", "unnest"];

/// Besides those that are called `array_` or `list_` something.
const OF_LISTS: &[&str] = &["cardinality", "element_at", "make_array", "string_to_array"];

/// What a function name stands for.
pub(crate) enum Named {
    /// One value from the values of one row.
    RowWise,
    /// A function of many rows.
    Aggregate,
    /// A function of a row and its neighbours.
    Window,
    /// Its value depends on time, chance or place.
    Impure,
    /// It makes several rows of one.
    Expanding,
    /// It is there in other engines, for lists.
    OfLists,
    /// Nothing.
    Unknown,
}

static LIBRARY: LazyLock<BTreeMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let mut library = BTreeMap::new();
    for function in datafusion_functions::all_default_functions() {
        for alias in function.aliases() {
            library.insert(alias.to_lowercase(), Arc::clone(&function));
        }
        library.insert(function.name().to_lowercase(), function);
    }
    library
});

/// Finds out what a function name, in any case, stands for.
pub(crate) fn classify(name: &str) -> Named {
    let name = name.to_lowercase();
    let listed = |list: &[&str]| list.contains(&name.as_str());
    if let Some(function) = LIBRARY.get(&name) {
        return if row_wise(function) { Named::RowWise } else { Named::Impure };
    }
    if listed(AGGREGATES) {
        Named::Aggregate
    } else if listed(WINDOWS) {
        Named::Window
    } else if listed(IMPURE) {
        Named::Impure
    } else if listed(EXPANDING) {
        Named::Expanding
    } else if name.starts_with("array_") || name.starts_with("list_") || listed(OF_LISTS) {
        Named::OfLists
    } else {
        Named::Unknown
    }
}

/// Whether a function's value depends on its arguments alone. The library marks the clock functions
/// "stable", which for us is as bad as volatile: a run resumed tomorrow must give the same bytes.
pub(crate) fn row_wise(function: &ScalarUDF) -> bool {
    function.signature().volatility == Volatility::Immutable && !UNSTABLE.contains(&function.name())
}

/// Names of the functions that may be called, in order.
pub(crate) fn function_names() -> impl Iterator<Item = &'static str> {
    LIBRARY.iter().filter(|(_, function)| row_wise(function)).map(|(name, _)| name.as_str())
}

/// The pinned session settings: UTC, and strings as plain `Utf8`.
pub(crate) fn config() -> Arc<ConfigOptions> {
    static CONFIG: LazyLock<Arc<ConfigOptions>> = LazyLock::new(|| {
        let mut config = ConfigOptions::new();
        config.execution.time_zone = Some("UTC".to_owned());
        config.sql_parser.enable_ident_normalization = false;
        config.sql_parser.map_string_types_to_utf8view = false;
        config.sql_parser.collect_spans = true;
        Arc::new(config)
    });
    Arc::clone(&CONFIG)
}

/// Execution settings without a clock: a function that asks for the time finds none.
pub(crate) fn execution_props() -> ExecutionProps {
    let mut props = ExecutionProps::new();
    props.config_options = Some(config());
    props
}

#[derive(Debug)]
struct Source(SchemaRef);

impl TableSource for Source {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }
}

/// `record['field']`; the library keeps its own version of this with the list functions.
#[derive(Debug)]
struct FieldAccess;

impl ExprPlanner for FieldAccess {
    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        _schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        Ok(match access.field_access {
            GetFieldAccess::NamedStructField { ref name } => PlannerResult::Planned(
                datafusion_functions::core::get_field().call(vec![access.expr, lit(name.clone())]),
            ),
            _ => PlannerResult::Original(access),
        })
    }
}

/// What the SQL planner asks while it plans.
pub(crate) struct Context {
    tables: HashMap<String, Arc<dyn TableSource>>,
    config: Arc<ConfigOptions>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    functions: HashMap<String, Arc<ScalarUDF>>,
}

impl Context {
    pub(crate) fn new(source: SchemaRef, lookups: &[Lookup]) -> Self {
        let table = |schema| Arc::new(Source(schema)) as Arc<dyn TableSource>;
        let lookups = lookups.iter().map(|it| (it.name.clone(), table(types::plain_schema(&it.schema))));
        Self {
            tables: std::iter::once((SOURCE.to_owned(), table(source))).chain(lookups).collect(),
            config: config(),
            planners: vec![
                Arc::new(CoreFunctionPlanner::default()),
                Arc::new(DatetimeFunctionPlanner),
                Arc::new(UnicodeFunctionPlanner),
                Arc::new(FieldAccess),
            ],
            functions: LIBRARY
                .iter()
                .filter(|(_, function)| row_wise(function))
                .map(|(name, function)| (name.clone(), Arc::clone(function)))
                .collect(),
        }
    }
}

impl ContextProvider for Context {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let known = if let TableReference::Bare { table } = &name { self.tables.get(table.as_ref()) } else { None };
        if let Some(table) = known { Ok(Arc::clone(table)) } else { plan_err!("there is no table `{name}`") }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.get(&name.to_lowercase()).cloned()
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _name: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.config
    }

    fn udf_names(&self) -> Vec<String> {
        function_names().map(str::to_owned).collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
