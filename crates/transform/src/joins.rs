//! The first reading of joins: only look-ups are joined, on their whole keys, so that each record finds one row at the
//! most. Everything else is refused at its place, with what to do instead. Nothing is planned or evaluated here.

use datafusion_sql::sqlparser::ast::{BinaryOperator, Expr, Join, JoinConstraint, JoinOperator, Spanned};
use datafusion_sql::sqlparser::tokenizer::Span;

use crate::error::{ErrorKind, SqlError};
use crate::expressions::{self, Scope};

/// The error for a join of anything else than a look-up.
pub(crate) fn refused() -> SqlError {
    crate::check::not_row_wise(
        "a join",
        "only look-ups can be joined, which the pipeline file names in `lookups`: a record finds one row of them at the \
         most; a reference between output tables is written in the pipeline (`references`), not in SQL",
    )
}

/// What of a join is looked at: how, and on what.
pub(crate) fn condition<'a>(join: &'a mut Join, name: &str, place: Span) -> Result<&'a mut Expr, SqlError> {
    let kind = match &join.join_operator {
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => "RIGHT JOIN",
        JoinOperator::FullOuter(_) => "FULL JOIN",
        JoinOperator::CrossJoin(_) => "CROSS JOIN",
        JoinOperator::Semi(_) | JoinOperator::LeftSemi(_) | JoinOperator::RightSemi(_) => "SEMI JOIN",
        JoinOperator::Anti(_) | JoinOperator::LeftAnti(_) | JoinOperator::RightAnti(_) => "ANTI JOIN",
        _ => "this kind of join",
    };
    let global = join.global;
    let constraint = match &mut join.join_operator {
        JoinOperator::Join(on) | JoinOperator::Inner(on) | JoinOperator::Left(on) | JoinOperator::LeftOuter(on)
            if !global =>
        {
            on
        }
        _ => {
            return Err(crate::check::not_row_wise(
                kind,
                &match kind {
                    "SEMI JOIN" => format!("write JOIN, which drops the records that find no row of `{name}`"),
                    "ANTI JOIN" => format!("write LEFT JOIN, and WHERE a column of the key of `{name}` IS NULL"),
                    _ => format!(
                        "write LEFT JOIN {name} ON ..., which keeps all records, or JOIN {name} ON ..., which \
                                  drops those that find no row"
                    ),
                },
            )
            .at(place));
        }
    };
    let help = format!("write ON with the key of `{name}`, such as ON source.country = {name}.code");
    match constraint {
        JoinConstraint::On(on) => Ok(on),
        JoinConstraint::Using(_) => Err(unsupported("JOIN ... USING", &help).at(place)),
        JoinConstraint::Natural => Err(unsupported("NATURAL JOIN", &help).at(place)),
        JoinConstraint::None => Err(unsupported("a JOIN without ON", &help).at(place)),
    }
}

fn unsupported(what: &str, help: &str) -> SqlError {
    SqlError::new(ErrorKind::Unsupported, format!("{what} is not supported in a transform")).help(help.to_owned())
}

/// A look-up that is joined.
pub(crate) struct Side<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    pub(crate) key: &'a [String],
    /// It alone.
    pub(crate) own: &'a Scope,
    /// What comes before it.
    pub(crate) before: &'a Scope,
    /// Both.
    pub(crate) both: &'a Scope,
}

/// Checks what a look-up is joined on, and makes its names exact: `=` between an expression of the record and a column of the
/// key, for each of these.
pub(crate) fn check_on(on: &mut Expr, side: &Side<'_>) -> Result<(), SqlError> {
    let place = on.span();
    expressions::check(on, side.both)?;
    let mut found: Vec<String> = Vec::new();
    let mut open = vec![&*on];
    while let Some(part) = open.pop() {
        match part {
            Expr::Nested(inner) => open.push(inner),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => open.extend([right.as_ref(), left.as_ref()]),
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
                let column = match (key_column(left, side), key_column(right, side)) {
                    (Some(column), None) if is_of_record(right, side) => column,
                    (None, Some(column)) if is_of_record(left, side) => column,
                    _ => return Err(no_equality(side).at(part.span()).or_at(Some(place))),
                };
                if !side.key.contains(&column) {
                    return Err(SqlError::new(
                        ErrorKind::NotRowWise,
                        format!(
                            "`{column}` is not in the key of the look-up `{}`, so a record might find many rows",
                            side.name
                        ),
                    )
                    .help(format!(
                        "its key is {}: join on that, or change `lookups.{}.key`",
                        side.key.join(", "),
                        side.name
                    ))
                    .at(part.span())
                    .or_at(Some(place)));
                }
                if found.contains(&column) {
                    return Err(SqlError::new(
                        ErrorKind::Unsupported,
                        format!("the join of `{}` compares `{column}` twice", side.name),
                    )
                    .help("compare it once, and put what else must hold into WHERE, or into a CASE where columns are taken")
                    .at(part.span())
                    .or_at(Some(place)));
                }
                found.push(column);
            }
            other => return Err(no_equality(side).at(other.span()).or_at(Some(place))),
        }
    }
    match side.key.iter().find(|column| !found.contains(column)) {
        None => Ok(()),
        Some(missing) => Err(SqlError::new(
            ErrorKind::NotRowWise,
            format!("the join of `{}` leaves out `{missing}` of its key, so a record might find many rows", side.name),
        )
        .help(format!("compare all of its key with =: {}", side.key.join(", ")))
        .at(place)),
    }
}

fn no_equality(side: &Side<'_>) -> SqlError {
    SqlError::new(
        ErrorKind::NotRowWise,
        format!("the join of `{}` is on something else than its key: a record might find many rows, or none for sure", side.name),
    )
    .help(format!(
        "compare each column of its key ({}) with an expression of the record, with = and AND; what else must hold goes into \
         WHERE, or into a CASE where columns are taken",
        side.key.join(", ")
    ))
}

/// The column of the look-up that an expression is, if it is one.
fn key_column(expr: &Expr, side: &Side<'_>) -> Option<String> {
    match expr {
        Expr::Nested(inner) => key_column(inner, side),
        Expr::Identifier(ident) => {
            let is_own = side.own.has(&ident.value) && !side.before.has(&ident.value);
            is_own.then(|| ident.value.clone())
        }
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [table, column] if side.own.is_called(&table.value) && !side.before.has(&table.value) => {
                side.own.has(&column.value).then(|| column.value.clone())
            }
            _ => None,
        },
        _ => None,
    }
}

/// Whether an expression can do without the look-up.
fn is_of_record(expr: &Expr, side: &Side<'_>) -> bool {
    expressions::check(&mut expr.clone(), side.before).is_ok()
}
