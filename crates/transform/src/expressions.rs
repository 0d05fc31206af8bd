//! The first reading of one expression: columns get their exact spelling, and whatever is not a
//! function of one row's values is refused at its place. The walk visits every part of an
//! expression, so nothing can hide in an argument.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, Spanned, Value,
    ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion_sql::sqlparser::tokenizer::{Location, Span};

use crate::context::{self, Named};
use crate::error::{ErrorKind, SqlError};
use crate::names;

/// Operators within operators that one expression may hold. Evaluation recurses on the caller's
/// thread, and this many levels fit the 2 MiB stack of an ordinary one with room to spare.
pub(crate) const MAX_DEPTH: usize = 200;

/// The columns that an expression may name.
#[derive(Clone, Default)]
pub(crate) struct Scope {
    /// The source, or a SELECT over it, and the look-ups that are joined.
    pub(crate) tables: Vec<Table>,
}

/// A table that an expression may name columns of.
#[derive(Clone)]
pub(crate) struct Table {
    /// Its name or alias, for `name.column`.
    pub(crate) name: Option<String>,
    /// The columns, in order.
    pub(crate) columns: Vec<String>,
}

impl Scope {
    /// The columns of all tables, in order.
    pub(crate) fn columns(&self) -> Vec<String> {
        self.tables.iter().flat_map(|table| table.columns.iter().cloned()).collect()
    }

    /// The names of the tables.
    pub(crate) fn names(&self) -> Vec<String> {
        self.tables.iter().filter_map(|table| table.name.clone()).collect()
    }

    /// Whether a table has a column of exactly this name.
    pub(crate) fn has(&self, column: &str) -> bool {
        self.tables.iter().any(|table| table.columns.iter().any(|name| name == column))
    }

    /// Whether a table is called exactly so.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.tables.iter().any(|table| table.name.as_deref() == Some(name))
    }

    /// Gives a column's name its exact spelling; an error if it could be one of several tables.
    pub(crate) fn resolve(&self, ident: &mut Ident, place: &str) -> Result<(), SqlError> {
        let mut columns = self.columns();
        if self.tables.len() > 1 {
            let mut seen = HashSet::new();
            columns.retain(|name| seen.insert(name.clone()));
        }
        names::resolve(ident, "column", &columns, place)?;
        let of: Vec<&Table> = self.tables.iter().filter(|table| table.columns.contains(&ident.value)).collect();
        let [first, second, ..] = of.as_slice() else { return Ok(()) };
        let name = |table: &Table| table.name.clone().unwrap_or_else(|| "the SELECT in FROM".to_owned());
        Err(SqlError::new(
            ErrorKind::UnknownName,
            format!("`{}` is ambiguous: `{}` and `{}` have it", ident.value, name(first), name(second)),
        )
        .help(format!("write `{}.{}`, or that of the other one", name(first), ident.value))
        .at(ident.span))
    }
}

/// Checks an expression and makes its names exact.
pub(crate) fn check(expr: &mut Expr, scope: &Scope) -> Result<(), SqlError> {
    let mut walk = Walk { scope, depth: 0, settled: HashSet::new() };
    match expr.visit(&mut walk) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Walk<'a> {
    scope: &'a Scope,
    depth: usize,
    /// Places of names that were resolved together with what they belong to (`t` and `a` of
    /// `t.a['x']`), and must not be looked up alone.
    settled: HashSet<Location>,
}

type Flow = ControlFlow<Box<SqlError>>;

fn refuse(error: SqlError) -> Flow {
    ControlFlow::Break(Box::new(error))
}

fn flow(result: Result<(), SqlError>) -> Flow {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => refuse(error),
    }
}

fn not_row_wise(message: String, help: &str, span: Span) -> SqlError {
    SqlError::new(ErrorKind::NotRowWise, message).help(help).at(span)
}

impl VisitorMut for Walk<'_> {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        refuse(subquery(query.span()))
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> Flow {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return refuse(
                SqlError::new(
                    ErrorKind::Unsupported,
                    format!("the expression is more than {MAX_DEPTH} operators deep"),
                )
                .help(
                    "write long chains as IN (...), concat(...) or CASE, or compute parts of it in a \
                     nested SELECT",
                )
                .at(expr.span()),
            );
        }
        match expr {
            Expr::Identifier(ident) => flow(self.column(ident)),
            Expr::CompoundIdentifier(parts) => flow(self.compound(&mut parts.iter_mut().collect::<Vec<_>>())),
            Expr::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain),
            Expr::Function(_) => self.function(expr),
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => refuse(subquery(expr.span())),
            Expr::InUnnest { .. } => refuse(expanding("UNNEST", expr.span())),
            Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_) => {
                refuse(not_row_wise("grouping is not row-wise".to_owned(), "leave it out", expr.span()))
            }
            Expr::Lambda(_) => refuse(
                SqlError::new(ErrorKind::Unsupported, "lambdas are not supported in a transform")
                    .help("leave it out")
                    .at(expr.span()),
            ),
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_expr(&mut self, _expr: &mut Expr) -> Flow {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> Flow {
        match &value.value {
            Value::Placeholder(name) => refuse(
                SqlError::new(ErrorKind::Unsupported, format!("the parameter `{name}` has no value"))
                    .help("write the value itself, or ${NAME} in the pipeline file to take it from the environment")
                    .at(value.span),
            ),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn subquery(span: Span) -> SqlError {
    not_row_wise(
        "a sub-query in an expression is not row-wise: it looks at other rows".to_owned(),
        "list the values, as in x IN ('a', 'b'); nested SELECTs belong in FROM",
        span,
    )
}

fn expanding(name: &str, span: Span) -> SqlError {
    not_row_wise(
        format!("`{name}` makes several rows of one, which a transform does not do"),
        "tables take lists apart, after the transform: give a table `from: COLUMN[]`",
        span,
    )
}

impl Walk<'_> {
    fn column(&self, ident: &mut Ident) -> Result<(), SqlError> {
        if self.settled.contains(&ident.span.start) && ident.span.start.line > 0 {
            return Ok(());
        }
        if ident.quote_style.is_none() && ident.value.starts_with('@') {
            return Err(SqlError::new(ErrorKind::Unsupported, format!("the variable `{}` has no value", ident.value))
                .help("write the value itself")
                .at(ident.span));
        }
        let result = self.scope.resolve(ident, "");
        if ident.quote_style == Some('"') && result.is_err() {
            return result.map_err(|error| {
                let help = error.help.clone().unwrap_or_default();
                error.help(format!("{help} (a text is written in single quotes)"))
            });
        }
        result
    }

    /// `table.column`, `column.field` or `table.column.field`; fields of records are left to the
    /// planner, which knows their types.
    fn compound(&self, parts: &mut [&mut Ident]) -> Result<(), SqlError> {
        let [first, rest @ ..] = parts else {
            return Ok(());
        };
        let relations = self.scope.names();
        let mut table = first.clone();
        let is_table = names::resolve(&mut table, "table", &relations, "").is_ok();
        let of = self.scope.tables.iter().find(|of| is_table && of.name.as_deref() == Some(table.value.as_str()));
        if let (Some(of), Some(second)) = (of, rest.first_mut()) {
            let mut column = second.clone();
            match names::resolve(&mut column, "column", &of.columns, "") {
                Ok(()) => {
                    first.value = table.value;
                    second.value = column.value;
                    return Ok(());
                }
                // Unless a column is called like the table, and has such a field.
                Err(error) if !self.scope.has(&first.value) => return Err(error),
                Err(_) => {}
            }
        }
        self.column(first).map_err(|error| match (relations.as_slice(), rest.is_empty()) {
            ([], _) | (_, true) => error,
            ([name], false) => error.help(format!("the table here is `{name}`")),
            (names, false) => error.help(format!("the tables here are `{}`", names.join("`, `"))),
        })
    }

    /// `column['field']`, where the column may itself be `table.column`.
    fn access(&mut self, root: &mut Expr, chain: &mut [AccessExpr]) -> Flow {
        let Expr::Identifier(first) = root else {
            return ControlFlow::Continue(());
        };
        let mut parts = vec![first];
        for access in chain {
            let AccessExpr::Dot(Expr::Identifier(ident)) = access else {
                break;
            };
            parts.push(ident);
        }
        self.settled.extend(parts.iter().map(|it| it.span.start));
        // Looked up before they count as settled, hence from a fresh walk.
        let fresh = Walk { scope: self.scope, depth: 0, settled: HashSet::new() };
        flow(fresh.compound(&mut parts))
    }

    fn function(&self, expr: &mut Expr) -> Flow {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        let span = function.name.span();
        let written = function.name.to_string();
        // `current_date` without brackets is a function, unless a column is called that.
        if matches!(function.args, FunctionArguments::None) {
            let mut ident = Ident::new(written.clone());
            ident.span = span;
            if self.scope.resolve(&mut ident, "").is_ok() {
                ident.quote_style = Some('"');
                *expr = Expr::Identifier(ident);
                return ControlFlow::Continue(());
            }
        }
        let name = written.trim_matches('"').to_lowercase();
        flow(check_function(&name, function, span))
    }
}

/// Functions whose result for a row may follow from another row's format, if formats differ.
const CONSTANT_FORMAT: &[&str] = &["to_char", "date_format"];

fn has_constant_format(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return true };
    let format = list.args.get(1);
    format.is_none_or(|format| matches!(format, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(_)))))
}

fn check_function(name: &str, function: &Function, span: Span) -> Result<(), SqlError> {
    if function.over.is_some() {
        return Err(window(name, span));
    }
    match context::classify(name) {
        Named::RowWise => {}
        Named::Aggregate => return Err(aggregate(name, span)),
        Named::Window => return Err(window(name, span)),
        Named::Expanding => return Err(expanding(name, span)),
        Named::Impure => {
            return Err(not_row_wise(
                format!(
                    "`{name}` does not depend on the row alone: a run that is repeated or resumed \
                     would give other values"
                ),
                "take the value from a column, or write it as a constant (${NAME} in the pipeline \
                 file reads the environment)",
                span,
            ));
        }
        Named::OfLists => {
            let text = format!("`{name}`: functions of lists are not available in a transform");
            let help =
                "let the list pass through: tables take it apart, with `from: COLUMN[]`, or compute from the output";
            return Err(SqlError::new(ErrorKind::Unsupported, text).help(help).at(span));
        }
        Named::Unknown => {
            let error = SqlError::new(ErrorKind::UnknownName, format!("unknown function `{name}`")).at(span);
            return Err(match names::nearest(name, context::function_names()) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None => error.help("functions are those of DataFusion's scalar function library"),
            });
        }
    }
    if CONSTANT_FORMAT.contains(&name) && !has_constant_format(function) {
        return Err(not_row_wise(
            format!("the format of `{name}` is not a constant: the library would take the first row's for all of them"),
            "write the format as a text, such as '%Y-%m-%d', and choose among several with CASE",
            span,
        ));
    }
    let clauses = match &function.args {
        FunctionArguments::List(list) => list.duplicate_treatment.is_some() || !list.clauses.is_empty(),
        FunctionArguments::Subquery(_) => return Err(subquery(span)),
        FunctionArguments::None => false,
    };
    if clauses
        || function.filter.is_some()
        || function.null_treatment.is_some()
        || !function.within_group.is_empty()
        || !matches!(function.parameters, FunctionArguments::None)
    {
        return Err(not_row_wise(
            format!("DISTINCT, FILTER, ORDER BY and the like in `{name}` belong to aggregation"),
            "leave it out",
            span,
        ));
    }
    Ok(())
}

fn aggregate(name: &str, span: Span) -> SqlError {
    let help = match name {
        "min" => "for the smallest of several columns of one row write least(a, b)",
        "max" => "for the largest of several columns of one row write greatest(a, b)",
        "sum" => "to add columns of one row write a + b",
        _ => "give the table a `key` for distinct things; aggregate the output afterwards",
    };
    not_row_wise(format!("`{name}` is an aggregate function: it looks at many rows, a transform at one"), help, span)
}

fn window(name: &str, span: Span) -> SqlError {
    let help = match name {
        "row_number" => "numbering is what the tables' `id` is for",
        _ => "leave it out, or compute it from the output afterwards",
    };
    not_row_wise(
        format!("`{name}` is used as a window function: it looks at other rows, a transform at one"),
        help,
        span,
    )
}
