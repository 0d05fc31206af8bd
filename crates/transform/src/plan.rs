//! From SQL text to a short chain of filters and projections over the columns of `source`, typed and
//! simplified. Whatever the planner makes that is not such a chain is refused here once more, by
//! shape: the first reading refuses politely, this one makes sure. Nothing is evaluated but constants.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::compute::can_cast_types;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DFSchemaRef, DataFusionError, ScalarValue};
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_optimizer::Analyzer;
use datafusion_optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_sql::planner::SqlToRel;
use datafusion_sql::sqlparser::ast::{Expr as SqlExpr, Query, SelectItem, SetExpr, Spanned, Statement, Value};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::parser::Parser;
use datafusion_sql::sqlparser::tokenizer::{Span, Token, Tokenizer, Word};

use crate::context::{self, Context, SOURCE};
use crate::error::{ErrorKind, SqlError};
use crate::lookup::{Condition, Joined, Lookup};
use crate::{check, lower, types};

/// Words and signs that one transform may hold: far more than a person writes, and few enough that
/// planning ends in seconds on the stack that it is given.
const MAX_TOKENS: usize = 50_000;

/// Brackets within brackets that are parsed.
const MAX_NESTING: usize = 50;

/// One step over all rows, from the source outwards.
#[derive(Debug)]
pub(crate) enum Step {
    /// Keeps the rows for which `predicate` is true.
    Filter {
        predicate: Expr,
        input: DFSchemaRef,
        /// Positions in `input`.
        uses: BTreeSet<usize>,
    },
    /// Adds the columns of a look-up, in the row that a record finds there; else nulls, or the record is dropped.
    Lookup {
        /// What of the record is looked up.
        keys: Vec<Expr>,
        joined: Arc<Joined>,
        is_inner: bool,
        input: DFSchemaRef,
        /// Positions in `input`.
        uses: BTreeSet<usize>,
    },
    /// Makes new columns from the old ones.
    Project { columns: Vec<Computed>, input: DFSchemaRef },
}

/// A column that a projection makes.
#[derive(Debug)]
pub(crate) struct Computed {
    pub(crate) expr: Expr,
    /// Positions in the projection's input.
    pub(crate) uses: BTreeSet<usize>,
    /// The position of the input column that this is, unchanged.
    pub(crate) bare: Option<usize>,
}

/// A planned transform.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The source as it is read.
    pub(crate) source: SchemaRef,
    /// The source as the steps see it.
    pub(crate) plain: SchemaRef,
    /// From the source outwards; the last one is a projection.
    pub(crate) steps: Vec<Step>,
    /// The result.
    pub(crate) schema: SchemaRef,
}

/// Plans `sql`. Must run on a large stack.
pub(crate) fn plan(sql: &str, source: SchemaRef, lookups: &[Lookup]) -> Result<Plan, SqlError> {
    let plain = plain_source(&source)?;
    let mut query = check::only_query(parse(sql)?)?;
    let names = plain.fields().iter().map(|it| it.name().clone()).collect();
    check::query(&mut query, names, lookups)?;
    let logical = analyze(&query, &plain, lookups).map_err(|error| {
        let error = SqlError::from(error);
        let place = if error.location.is_none() { blame(&query, &plain, lookups) } else { None };
        error.or_at(place)
    })?;
    let mut steps = Vec::new();
    collect(&logical, lookups, &mut steps)?;
    refuse_unused(lookups, &steps)?;
    let schema = result_schema(logical.schema().as_arrow())?;
    Ok(Plan { source, plain, steps, schema })
}

fn plain_source(source: &Schema) -> Result<SchemaRef, SqlError> {
    let plain = types::plain_schema(source);
    for (raw, field) in source.fields().iter().zip(plain.fields()) {
        let same_name = source.fields().iter().filter(|it| it.name() == raw.name());
        if same_name.count() > 1 {
            return Err(SqlError::new(ErrorKind::Type, format!("the source has two columns called `{}`", raw.name()))
                .help("a transform tells columns apart by name: rename one where the file is written"));
        }
        if !can_cast_types(raw.data_type(), field.data_type()) {
            return Err(SqlError::new(
                ErrorKind::Type,
                format!("the source column `{}` has the type {}, which cannot be read", raw.name(), raw.data_type()),
            ));
        }
    }
    Ok(plain)
}

fn parse(sql: &str) -> Result<Vec<Statement>, SqlError> {
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize_with_location()
        .map_err(|error| SqlError::from(datafusion_sql::sqlparser::parser::ParserError::from(error)))?;
    let words = tokens.iter().filter(|it| !matches!(it.token, Token::Whitespace(_))).count();
    if words > MAX_TOKENS {
        return Err(SqlError::new(
            ErrorKind::Unsupported,
            format!("the SQL has {words} words and signs, more than {MAX_TOKENS}"),
        )
        .help("use wildcards (* EXCEPT, * REPLACE) in place of long lists"));
    }
    let mut parser = Parser::new(&dialect).with_recursion_limit(MAX_NESTING).with_tokens_with_locations(tokens);
    parser.parse_statements().map_err(|error| SqlError::from(error).or_at_end(sql))
}

/// The words of SQL that has been planned: names, and those that the language has.
pub(crate) fn words(sql: &str) -> Vec<Word> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap_or_default();
    let word = |token| if let Token::Word(word) = token { Some(word) } else { None };
    tokens.into_iter().filter_map(word).collect()
}

fn analyze(query: &Query, source: &SchemaRef, lookups: &[Lookup]) -> Result<LogicalPlan, DataFusionError> {
    let context = Context::new(Arc::clone(source), lookups);
    let statement = Statement::Query(Box::new(query.clone()));
    let plan = SqlToRel::new(&context).sql_statement_to_plan(statement)?;
    Analyzer::with_rules(vec![Arc::new(TypeCoercion::new())]).execute_and_check(plan, &context::config(), |_, _| {})
}

/// Where a query fails that the planner refuses without a place: each column of the outer SELECT,
/// and its WHERE, is planned alone.
fn blame(query: &Query, source: &SchemaRef, lookups: &[Lookup]) -> Option<Span> {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    let fails = |projection: Vec<SelectItem>, selection: Option<SqlExpr>| {
        let mut part = query.clone();
        if let SetExpr::Select(select) = part.body.as_mut() {
            select.projection = projection;
            select.selection = selection;
        }
        analyze(&part, source, lookups).is_err()
    };
    let nothing = || vec![SelectItem::UnnamedExpr(SqlExpr::value(Value::Null))];
    if fails(nothing(), None) {
        return None;
    }
    if let Some(condition) = &select.selection
        && fails(nothing(), Some(condition.clone()))
    {
        return Some(condition.span());
    }
    select.projection.iter().find(|item| fails(vec![(*item).clone()], None)).map(Spanned::span)
}

/// Appends the plan's steps, innermost first.
fn collect(plan: &LogicalPlan, lookups: &[Lookup], steps: &mut Vec<Step>) -> Result<(), SqlError> {
    match plan {
        LogicalPlan::TableScan(scan)
            if scan.projection.is_none() && scan.filters.is_empty() && scan.table_name.table() == SOURCE =>
        {
            Ok(())
        }
        LogicalPlan::SubqueryAlias(alias) => collect(&alias.input, lookups, steps),
        LogicalPlan::Filter(filter) => {
            collect(&filter.input, lookups, steps)?;
            let input = Arc::clone(filter.input.schema());
            let predicate = prepare(&filter.predicate, &input)?;
            if !matches!(predicate, Expr::Literal(ScalarValue::Boolean(Some(true)), _)) {
                let uses = uses(&predicate, &input)?;
                steps.push(Step::Filter { predicate, input, uses });
            }
            Ok(())
        }
        LogicalPlan::Projection(projection) => {
            collect(&projection.input, lookups, steps)?;
            let input = Arc::clone(projection.input.schema());
            let columns = projection.expr.iter().map(|expr| computed(expr, &input)).collect::<Result<_, _>>()?;
            steps.push(Step::Project { columns, input });
            Ok(())
        }
        LogicalPlan::Join(join) => {
            collect(&join.left, lookups, steps)?;
            let input = Arc::clone(join.left.schema());
            let Condition { record, joined, is_inner } = Joined::of(join, lookups)?;
            let keys: Vec<Expr> = record.iter().map(|expr| prepare(expr, &input)).collect::<Result<_, _>>()?;
            let uses: Vec<BTreeSet<usize>> = keys.iter().map(|key| uses(key, &input)).collect::<Result<_, _>>()?;
            let uses = uses.into_iter().flatten().collect();
            steps.push(Step::Lookup { keys, joined: Arc::new(joined), is_inner, input, uses });
            Ok(())
        }
        other => Err(SqlError::new(
            ErrorKind::NotRowWise,
            format!("the SQL is not row-wise: it needs the plan node {}", name_of(other)),
        )
        .help("use projections, expressions of one row's columns, and WHERE")),
    }
}

/// A look-up that nothing joins is a slip.
fn refuse_unused(lookups: &[Lookup], steps: &[Step]) -> Result<(), SqlError> {
    let is_joined = |lookup: &&Lookup| {
        steps.iter().any(|step| matches!(step, Step::Lookup { joined, .. } if joined.name == lookup.name))
    };
    match lookups.iter().find(|lookup| !is_joined(lookup)) {
        None => Ok(()),
        Some(unused) => {
            let (name, key) = (&unused.name, unused.key.first().map_or("key", String::as_str));
            Err(SqlError::new(ErrorKind::UnknownName, format!("nothing joins the look-up `{name}`")).help(format!(
                "write `FROM source LEFT JOIN {name} ON source.... = {name}.{key}`, or take it out of `lookups`"
            )))
        }
    }
}

fn name_of(plan: &LogicalPlan) -> String {
    let text = plan.display().to_string();
    text.split([':', ' ']).next().unwrap_or_default().to_owned()
}

fn computed(expr: &Expr, input: &DFSchemaRef) -> Result<Computed, SqlError> {
    let expr = prepare(expr, input)?;
    let uses = uses(&expr, input)?;
    let bare = match expr.clone().unalias_nested().data {
        Expr::Column(column) => Some(input.index_of_column(&column).map_err(SqlError::from)?),
        _ => None,
    };
    Ok(Computed { expr, uses, bare })
}

fn uses(expr: &Expr, input: &DFSchema) -> Result<BTreeSet<usize>, SqlError> {
    expr.column_refs().into_iter().map(|column| input.index_of_column(column).map_err(SqlError::from)).collect()
}

/// Verifies that an expression is a function of its columns, that its constant parts can be
/// computed, and simplifies it.
fn prepare(expr: &Expr, input: &DFSchemaRef) -> Result<Expr, SqlError> {
    verify(expr)?;
    check_constants(expr, input)?;
    let simplify =
        SimplifyContext::builder().with_schema(Arc::clone(input)).with_config_options(context::config()).build();
    let simple = ExprSimplifier::new(simplify).simplify(expr.clone())?;
    verify(&simple)?;
    Ok(simple)
}

fn verify(expr: &Expr) -> Result<(), SqlError> {
    let mut refused = None;
    expr.apply(|part| {
        let fine = match part {
            Expr::ScalarFunction(call) => context::row_wise(&call.func),
            Expr::Alias(_)
            | Expr::Column(_)
            | Expr::Literal(..)
            | Expr::BinaryExpr(_)
            | Expr::Like(_)
            | Expr::SimilarTo(_)
            | Expr::Not(_)
            | Expr::IsNotNull(_)
            | Expr::IsNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Negative(_)
            | Expr::Between(_)
            | Expr::Case(_)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::InList(_) => true,
            _ => false,
        };
        if fine {
            return Ok(TreeNodeRecursion::Continue);
        }
        refused = Some(readable(part));
        Ok(TreeNodeRecursion::Stop)
    })?;
    match refused {
        None => Ok(()),
        Some(text) => {
            Err(SqlError::new(ErrorKind::NotRowWise, format!("`{text}` is not an expression of one row's columns"))
                .help("use columns, constants, operators and scalar functions"))
        }
    }
}

/// Computes the largest parts without columns, so that one that always fails (`1 / 0`, a text that
/// is no number) is told now, and simplification, whose integers wrap around, meets none.
fn check_constants(expr: &Expr, input: &DFSchema) -> Result<(), SqlError> {
    let mut failed = None;
    expr.apply(|part| {
        if !part.column_refs().is_empty() {
            return Ok(TreeNodeRecursion::Continue);
        }
        if !matches!(part, Expr::Literal(..))
            && let Err((text, error)) = lower::constant(part, input)
        {
            failed = Some((text.unwrap_or_else(|| readable(part)), error));
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Jump)
    })?;
    match failed {
        None => Ok(()),
        Some((text, error)) => Err(SqlError::new(
            ErrorKind::Type,
            format!("the constant `{text}` cannot be computed: {}", crate::error::reason(&error)),
        )
        .help("it would fail for every row: correct it, or write NULL where there is no value")),
    }
}

/// A planned expression as text, without the names of the tables.
fn readable(expr: &Expr) -> String {
    let bare = expr.clone().unalias_nested().data.transform(|part| {
        use datafusion_common::tree_node::Transformed;
        Ok(match part {
            Expr::Column(column) => {
                Transformed::yes(Expr::Column(datafusion_common::Column::new_unqualified(column.name)))
            }
            other => Transformed::no(other),
        })
    });
    match bare {
        Ok(bare) => bare.data.human_display().to_string(),
        Err(_) => expr.human_display().to_string(),
    }
}

fn result_schema(schema: &Schema) -> Result<SchemaRef, SqlError> {
    let mut fields: Vec<Field> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let field = types::plain_field(field);
        if let Some(help) = types::unstorable(field.data_type()) {
            return Err(SqlError::new(
                ErrorKind::Type,
                format!("the column `{}` has the type {}, which cannot be stored", field.name(), field.data_type()),
            )
            .help(help));
        }
        fields.push(field);
    }
    Ok(Arc::new(Schema::new(fields)))
}
