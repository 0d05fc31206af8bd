//! The first reading of the SQL: what is not row-wise is refused at its place, with the reason and
//! what to do instead; every name is looked up in its scope and given its exact spelling; every
//! result column gets the name that the user would expect. Nothing is planned or evaluated here, and
//! nothing that passes may change its meaning: exact names are left alone.

use datafusion_sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, GroupByExpr, Ident, Join, ObjectName, ObjectNamePart, Query, Select, SelectFlavor,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Spanned, Statement, TableAlias, TableFactor, TableWithJoins,
    WildcardAdditionalOptions,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use crate::context::SOURCE;
use crate::error::{ErrorKind, SqlError};
use crate::expressions::{self, Scope, Table};
use crate::joins::{self, Side};
use crate::lookup::Lookup;
use crate::names;

type Result<T> = std::result::Result<T, SqlError>;

const WHY: &str = "each row is transformed by itself, so that every run, retry and chunk size gives the same result";

/// A relation that FROM may name.
#[derive(Clone)]
struct Relation {
    name: String,
    columns: Vec<String>,
    /// The key of a look-up, which can be joined and nothing else.
    key: Option<Vec<String>>,
}

/// The one query of a parsed text.
pub(crate) fn only_query(mut statements: Vec<Statement>) -> Result<Box<Query>> {
    if let [_, second, ..] = statements.as_slice() {
        return Err(SqlError::new(ErrorKind::Syntax, "the SQL holds several statements")
            .help("keep one SELECT; write intermediate steps as WITH name AS (SELECT ...)")
            .at(second.span()));
    }
    match statements.pop() {
        None => Err(SqlError::new(ErrorKind::Syntax, "the SQL is empty")
            .help("write SELECT ... FROM source, or leave the transform out")),
        Some(Statement::Query(query)) => Ok(query),
        Some(other) => {
            let text = other.to_string();
            let verb = text.split_whitespace().next().unwrap_or("this");
            Err(SqlError::new(ErrorKind::Unsupported, format!("{verb} is not a SELECT: a transform only reads"))
                .help("write one SELECT ... FROM source"))
        }
    }
}

/// Checks a query over `source` with these columns, and look-ups, and makes its names exact.
pub(crate) fn query(query: &mut Query, source: Vec<String>, lookups: &[Lookup]) -> Result<()> {
    let lookup = |lookup: &Lookup| Relation {
        name: lookup.name.clone(),
        columns: lookup.schema.fields().iter().map(|field| field.name().clone()).collect(),
        key: Some(lookup.key.clone()),
    };
    let mut relations: Vec<Relation> = lookups.iter().map(lookup).collect();
    relations.push(Relation { name: SOURCE.to_owned(), columns: source, key: None });
    check_query(query, &relations).map(|_| ())
}

pub(crate) fn not_row_wise(what: &str, help: &str) -> SqlError {
    SqlError::new(ErrorKind::NotRowWise, format!("{what} is not row-wise: {WHY}")).help(help)
}

fn unsupported(what: &str, help: &str) -> SqlError {
    SqlError::new(ErrorKind::Unsupported, format!("{what} is not supported in a transform")).help(help)
}

/// Returns the names of the query's columns.
fn check_query(query: &mut Query, relations: &[Relation]) -> Result<Vec<String>> {
    let mut relations = relations.to_vec();
    if let Some(with) = &mut query.with {
        if with.recursive {
            return Err(not_row_wise("WITH RECURSIVE", "leave RECURSIVE out").at(with.with_token.0.span));
        }
        for cte in &mut with.cte_tables {
            let columns = check_query(&mut cte.query, &relations)?;
            let columns = renamed(columns, &cte.alias)?;
            let name = cte.alias.name.value.clone();
            relations.push(Relation { name, columns, key: None });
        }
    }
    let place = query.body.span();
    let at = |error: SqlError| Err(error.or_at(Some(place)));
    if let Some(order_by) = &query.order_by {
        return Err(not_row_wise("ORDER BY", "leave it out: rows keep the order of the source, and so do the IDs")
            .at(order_by.span()));
    }
    if let Some(limit) = &query.limit_clause {
        return Err(not_row_wise("LIMIT or OFFSET", "choose rows by their values, with WHERE").at(limit.span()));
    }
    if query.fetch.is_some() {
        return at(not_row_wise("FETCH", "choose rows by their values, with WHERE"));
    }
    if !query.locks.is_empty() || query.for_clause.is_some() {
        return at(unsupported("FOR", "leave it out"));
    }
    if query.settings.is_some() || query.format_clause.is_some() {
        return at(unsupported("SETTINGS or FORMAT", "leave it out"));
    }
    if !query.pipe_operators.is_empty() {
        return at(unsupported("the pipe operator |>", "write nested SELECTs or WITH"));
    }
    check_body(&mut query.body, &relations, place)
}

fn check_body(body: &mut SetExpr, relations: &[Relation], place: Span) -> Result<Vec<String>> {
    match body {
        SetExpr::Select(select) => check_select(select, relations),
        SetExpr::Query(query) => check_query(query, relations),
        SetExpr::SetOperation { op, .. } => Err(not_row_wise(
            &op.to_string(),
            "list several files in `source.files` instead, or run one pipeline for each part",
        )
        .at(place)),
        SetExpr::Values(_) => Err(unsupported("VALUES", "select from the table `source`").at(place)),
        SetExpr::Table(_) => Err(unsupported("TABLE", "write SELECT * FROM source").at(place)),
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            Err(unsupported("a statement that writes", "write one SELECT ... FROM source").at(place))
        }
    }
}

fn check_select(select: &mut Select, relations: &[Relation]) -> Result<Vec<String>> {
    check_clauses(select)?;
    let scope = check_from(select, relations)?;
    if let Some(condition) = &mut select.selection {
        expressions::check(condition, &scope)?;
    }
    if select.projection.is_empty() && matches!(select.flavor, SelectFlavor::FromFirstNoSelect) {
        let every = WildcardAdditionalOptions::default();
        select.projection.push(SelectItem::Wildcard(every));
        select.flavor = SelectFlavor::Standard;
    }
    let mut names = Vec::new();
    for item in &mut select.projection {
        let span = item.span();
        for name in check_item(item, &scope)? {
            if names.contains(&name) {
                return Err(SqlError::new(ErrorKind::Type, format!("two result columns are called `{name}`"))
                    .help(format!(
                        "rename one with AS, or leave one out with * EXCEPT ({name}), \
                     or change it in place with * REPLACE (... AS {name})"
                    ))
                    .at(span));
            }
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(SqlError::new(ErrorKind::Type, "the result has no columns")
            .help("select at least one column")
            .at(select.select_token.0.span));
    }
    Ok(names)
}

fn check_clauses(select: &Select) -> Result<()> {
    let place = select.select_token.0.span;
    if select.distinct.is_some() {
        return Err(not_row_wise(
            "DISTINCT",
            "leave it out: a table with a `key` holds every distinct key once anyway",
        )
        .at(place));
    }
    if let GroupByExpr::Expressions(expressions, modifiers) = &select.group_by
        && expressions.is_empty()
        && modifiers.is_empty()
    {
        // No GROUP BY.
    } else {
        return Err(not_row_wise(
            "GROUP BY",
            "give the table a `key` for distinct things; aggregate the output afterwards",
        )
        .at(Some(select.group_by.span()).filter(|it| it.start.line > 0).unwrap_or(place)));
    }
    if let Some(having) = &select.having {
        return Err(not_row_wise("HAVING", "filter rows with WHERE").at(having.span()));
    }
    if let Some(qualify) = &select.qualify {
        return Err(not_row_wise("QUALIFY", "filter rows with WHERE").at(qualify.span()));
    }
    if !select.named_window.is_empty() {
        return Err(not_row_wise("WINDOW", "leave it out").at(place));
    }
    if select.top.is_some() {
        return Err(not_row_wise("TOP", "choose rows by their values, with WHERE").at(place));
    }
    let sorts = !select.cluster_by.is_empty() || !select.distribute_by.is_empty() || !select.sort_by.is_empty();
    if sorts || !select.connect_by.is_empty() {
        return Err(not_row_wise("SORT, CLUSTER, DISTRIBUTE or CONNECT BY", "leave it out").at(place));
    }
    if !select.lateral_views.is_empty() {
        return Err(not_row_wise("LATERAL VIEW", "leave it out").at(place));
    }
    let other = select.into.is_some()
        || select.prewhere.is_some()
        || select.value_table_mode.is_some()
        || select.exclude.is_some()
        || select.select_modifiers.is_some();
    if other {
        return Err(unsupported(
            "this form of SELECT (INTO, PREWHERE, AS STRUCT, trailing EXCLUDE or modifiers)",
            "write SELECT columns FROM source WHERE condition",
        )
        .at(place));
    }
    Ok(())
}

fn check_from(select: &mut Select, relations: &[Relation]) -> Result<Scope> {
    let place = select.select_token.0.span;
    match select.from.as_mut_slice() {
        [] => Err(SqlError::new(ErrorKind::UnknownName, "the SELECT has no FROM").help("write FROM source").at(place)),
        [TableWithJoins { relation, joins }] => {
            let mut scope = check_relation(relation, relations)?;
            for join in joins {
                let at = join.span();
                check_join(join, relations, &mut scope).map_err(|error| error.or_at(Some(at)).or_at(Some(place)))?;
            }
            Ok(scope)
        }
        [_, second, ..] => Err(joins::refused().at(second.span()).or_at(Some(place))),
    }
}

/// Adds the look-up that is joined to the scope.
fn check_join(join: &mut Join, relations: &[Relation], scope: &mut Scope) -> Result<()> {
    let place = join.span();
    let refused = || joins::refused().at(place);
    let (Relation { name, columns, key }, alias) = match &mut join.relation {
        TableFactor::Table { name, alias, args: None, .. } => {
            let names: Vec<String> = relations.iter().map(|it| it.name.clone()).collect();
            let is_one = matches!(name.0.as_slice(), [ObjectNamePart::Identifier(_)]);
            (
                find_relation(name, relations).map_err(|e| if is_one { lookup_help(e, &names) } else { e })?,
                alias.clone(),
            )
        }
        _ => return Err(refused()),
    };
    let Some(key) = key else { return Err(refused()) };
    // The planner wants to see that nothing else was asked of the table.
    plain_table(&join.relation)?;
    let own = scope_of(columns, Some(name.clone()), alias.as_ref())?;
    if alias.as_ref().is_some_and(|alias| !alias.columns.is_empty()) {
        return Err(
            unsupported("other names for the columns of a look-up", "give them names where they are taken").at(place)
        );
    }
    let called = own.names();
    if let Some(twice) = called.iter().find(|name| scope.is_called(name)) {
        return Err(SqlError::new(ErrorKind::UnknownName, format!("two tables are called `{twice}` here"))
            .help(format!("give one of them another name: JOIN {name} AS other ON ..."))
            .at(place));
    }
    let before = scope.clone();
    scope.tables.extend(own.tables.iter().cloned());
    let on = joins::condition(join, &name, place)?;
    joins::check_on(on, &Side { name: &name, key: &key, own: &own, before: &before, both: scope })
}

fn lookup_help(error: SqlError, known: &[String]) -> SqlError {
    let is_near = error.help.as_deref().is_some_and(|help| help.starts_with("did you mean"));
    let lookups: Vec<&str> = known.iter().map(String::as_str).filter(|name| *name != SOURCE).collect();
    match (is_near, lookups.is_empty()) {
        (true, _) => error,
        (false, true) => error.help("the pipeline has no look-ups; `lookups` in the pipeline file names some"),
        (false, false) => error.help(format!("what can be joined is in `lookups`: {}", lookups.join(", "))),
    }
}

fn check_relation(factor: &mut TableFactor, relations: &[Relation]) -> Result<Scope> {
    let place = factor.span();
    match factor {
        TableFactor::Table {
            name,
            alias,
            args: None,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
        } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
            let relation = find_relation(name, relations)?;
            if relation.key.is_some() {
                let name = relation.name;
                return Err(not_row_wise(
                    &format!("the look-up `{name}` alone"),
                    &format!("the records are in `source`: write FROM source LEFT JOIN {name} ON ..."),
                )
                .at(place));
            }
            scope_of(relation.columns, Some(relation.name), alias.as_ref())
        }
        TableFactor::Derived { lateral: false, subquery, alias, sample: None } => {
            scope_of(check_query(subquery, relations)?, None, alias.as_ref())
        }
        TableFactor::NestedJoin { table_with_joins, alias: None } if table_with_joins.joins.is_empty() => {
            check_relation(&mut table_with_joins.relation, relations)
        }
        TableFactor::NestedJoin { .. } => Err(joins::refused().at(place)),
        TableFactor::UNNEST { .. } => {
            Err(not_row_wise("unnest", "tables take lists apart, after the transform: give a table `from: COLUMN[]`")
                .at(place))
        }
        TableFactor::Pivot { .. } | TableFactor::Unpivot { .. } | TableFactor::MatchRecognize { .. } => {
            Err(not_row_wise("PIVOT, UNPIVOT or MATCH_RECOGNIZE", "leave it out").at(place))
        }
        TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => {
            Err(not_row_wise("TABLESAMPLE", "choose rows by their values, with WHERE").at(place))
        }
        _ => Err(unsupported("this FROM", "write FROM source, or FROM (SELECT ...)").at(place)),
    }
}

fn find_relation(name: &mut ObjectName, relations: &[Relation]) -> Result<Relation> {
    let known: Vec<String> = relations.iter().map(|it| it.name.clone()).collect();
    let place = name.span();
    let [ObjectNamePart::Identifier(ident)] = name.0.as_mut_slice() else {
        return Err(SqlError::new(ErrorKind::UnknownName, format!("unknown table `{name}`"))
            .help("the records are in the table `source`; it has no database or schema name")
            .at(place));
    };
    names::resolve(ident, "table", &known, "").map_err(|error| {
        let help = error.help.clone().unwrap_or_default();
        if help.starts_with("did you mean") {
            error
        } else {
            error.help("the records are in the table `source`; other tables must be written as WITH")
        }
    })?;
    // The last one with a name hides the others.
    match relations.iter().rev().find(|it| it.name == ident.value) {
        Some(relation) => Ok(relation.clone()),
        None => Err(names::unknown(ident, "table", &known, "")),
    }
}

/// Whether nothing but its rows is asked of a table.
fn plain_table(factor: &TableFactor) -> Result<()> {
    match factor {
        TableFactor::Table {
            args: None,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
            ..
        } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => Ok(()),
        other => Err(unsupported("this JOIN", "write LEFT JOIN and the name of a look-up").at(other.span())),
    }
}

fn one(name: Option<String>, columns: Vec<String>) -> Scope {
    Scope { tables: vec![Table { name, columns }] }
}

fn scope_of(columns: Vec<String>, name: Option<String>, alias: Option<&TableAlias>) -> Result<Scope> {
    Ok(match alias {
        Some(alias) => one(Some(alias.name.value.clone()), renamed(columns, alias)?),
        None => one(name, columns),
    })
}

/// Applies the columns of `AS t (a, b)`.
fn renamed(columns: Vec<String>, alias: &TableAlias) -> Result<Vec<String>> {
    if alias.columns.is_empty() {
        return Ok(columns);
    }
    if alias.columns.len() != columns.len() {
        return Err(SqlError::new(
            ErrorKind::Type,
            format!("`{}` names {} columns, but there are {}", alias.name.value, alias.columns.len(), columns.len()),
        )
        .help("name all of them or none")
        .at(alias.name.span));
    }
    Ok(alias.columns.iter().map(|it| it.name.value.clone()).collect())
}

/// Returns the names of the columns that the item stands for.
fn check_item(item: &mut SelectItem, scope: &Scope) -> Result<Vec<String>> {
    match item {
        SelectItem::ExprWithAlias { expr, alias } => {
            let name = alias.value.clone();
            if name.is_empty() {
                return Err(SqlError::new(ErrorKind::Syntax, "a column has an empty name")
                    .help("give it a name with AS")
                    .at(alias.span));
            }
            expressions::check(expr, scope)?;
            Ok(vec![name])
        }
        SelectItem::UnnamedExpr(expr) => {
            // Named as it is written, because the planner's own names change between its versions.
            let written = expr.to_string();
            expressions::check(expr, scope)?;
            let name = match expr {
                Expr::Identifier(ident) => return Ok(vec![ident.value.clone()]),
                Expr::CompoundIdentifier(parts) => parts.last().map_or(written, |it| it.value.clone()),
                _ => written,
            };
            let expr = expr.clone();
            let alias = Ident::with_quote('"', name.clone());
            *item = SelectItem::ExprWithAlias { expr, alias };
            Ok(vec![name])
        }
        SelectItem::Wildcard(options) => check_wildcard(options, scope),
        SelectItem::QualifiedWildcard(kind, options) => {
            if let SelectItemQualifiedWildcardKind::ObjectName(name) = kind
                && let [ObjectNamePart::Identifier(ident)] = name.0.as_mut_slice()
            {
                names::resolve(ident, "table", &scope.names(), "")?;
                let of = scope.tables.iter().filter(|table| table.name.as_ref() == Some(&ident.value));
                return check_wildcard(options, &Scope { tables: of.cloned().collect() });
            }
            Err(unsupported("this `.*`", "write `*` or name the columns").at(kind.span()))
        }
        SelectItem::ExprWithAliases { expr, .. } => {
            Err(unsupported("several aliases for one column", "write one column for each").at(expr.span()))
        }
    }
}

fn check_wildcard(options: &mut WildcardAdditionalOptions, scope: &Scope) -> Result<Vec<String>> {
    let place = options.wildcard_token.0.span;
    if options.opt_rename.is_some() || options.opt_ilike.is_some() || options.opt_alias.is_some() {
        return Err(unsupported("* RENAME, * ILIKE or * AS", "write * EXCEPT (old), old AS new").at(place));
    }
    let mut left_out: Vec<&mut Ident> = Vec::new();
    if let Some(except) = &mut options.opt_except {
        left_out.push(&mut except.first_element);
        left_out.extend(&mut except.additional_elements);
    }
    if let Some(exclude) = &mut options.opt_exclude {
        let excluded = match exclude {
            ExcludeSelectItem::Single(name) => std::slice::from_mut(name),
            ExcludeSelectItem::Multiple(names) => names.as_mut_slice(),
        };
        for name in excluded {
            match name.0.as_mut_slice() {
                [ObjectNamePart::Identifier(ident)] => left_out.push(ident),
                _ => {
                    return Err(unsupported("EXCLUDE of a qualified name", "name the column alone").at(place));
                }
            }
        }
    }
    let all = scope.columns();
    let mut names = all.clone();
    for ident in left_out {
        names::resolve(ident, "column", &all, " in EXCEPT")?;
        names.retain(|name| *name != ident.value);
    }
    if let Some(replace) = &mut options.opt_replace {
        for element in &mut replace.items {
            expressions::check(&mut element.expr, scope)?;
            names::resolve(&mut element.column_name, "column", &names, " in REPLACE")?;
        }
    }
    Ok(names)
}
