//! The format of text IDs: `ORD-{:06}` is the number with zeros before it up to six digits, `INV-{year}-{}` has a value
//! of the row in it. Whatever the values are, the number can be told from the text again, so two things never get the
//! same one; this module must refuse every format of which that cannot be said.

/// The widest number that can be asked for: no text ID needs more, and a column of them must stay small.
const MAX_WIDTH: u8 = 64;

/// A part of a text ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text as it is.
    Literal(String),
    /// The number, with zeros before it up to this width; its sign counts.
    Number(u8),
    /// The value that the row has in this column.
    Value(String),
}

/// A format, in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFormat {
    pieces: Vec<Piece>,
}

/// What is wrong with a format, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatError {
    /// What is wrong, as the end of a sentence that begins with the format.
    pub message: String,
    /// What to do.
    pub help: String,
}

fn wrong<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, FormatError> {
    Err(FormatError { message: message.into(), help: help.into() })
}

impl TextFormat {
    /// Reads a format.
    ///
    /// # Errors
    /// If it is malformed, has no number or several, or if the number could be confused with a value beside it.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if let Some(after) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            let Some(end) = after.find('}').filter(|_| brace == "{") else {
                let message = if brace == "{" { "has a `{` that nothing closes" } else { "has a `}` without a `{`" };
                return wrong(message, "write `{{` and `}}` for braces that are meant as they are");
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(placeholder(&after[..end])?);
            rest = &after[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        check_number(&pieces)?;
        Ok(Self { pieces })
    }

    /// Its parts, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The columns whose values are in it, in order; one that is in it twice is there twice.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Value(column) => Some(column.as_str()),
            Piece::Literal(_) | Piece::Number(_) => None,
        })
    }

    /// The format as it is written with other names of columns; `None` if none is another.
    pub fn renamed(&self, name: impl Fn(&str) -> String) -> Option<String> {
        let doubled = |text: &str| text.replace('{', "{{").replace('}', "}}");
        let mut is_other = false;
        let piece = |piece: &Piece| match piece {
            Piece::Literal(text) => doubled(text),
            Piece::Number(0) => "{}".to_owned(),
            Piece::Number(width) => format!("{{:0{width}}}"),
            Piece::Value(column) => {
                let new = name(column);
                is_other |= new != *column;
                format!("{{{new}}}")
            }
        };
        let text = self.pieces.iter().map(piece).collect();
        is_other.then_some(text)
    }

    /// Whether a number below zero could be confused with what is before it: `{a}-{}` is `x--5` for two of them.
    pub(crate) fn confuses_signs(&self) -> bool {
        let at = self.pieces.iter().position(|piece| matches!(piece, Piece::Number(_))).unwrap_or_default();
        let (before, _) = self.pieces.split_at(at);
        let has_values = before.iter().any(|piece| matches!(piece, Piece::Value(_)));
        has_values && matches!(before.last(), Some(Piece::Literal(text)) if text.ends_with('-'))
    }
}

/// What stands between two braces.
fn placeholder(inside: &str) -> Result<Piece, FormatError> {
    let Some(padding) = inside.strip_prefix(':').or_else(|| inside.is_empty().then_some("")) else {
        return Ok(Piece::Value(inside.to_owned()));
    };
    if padding.is_empty() {
        return Ok(Piece::Number(0));
    }
    let digits = padding.strip_prefix('0').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(width) if (1..=MAX_WIDTH).contains(&width) => Ok(Piece::Number(width)),
        _ => wrong(
            format!("has `{{{inside}}}`, which is no way to write a number"),
            format!("write `{{}}`, or `{{:06}}` for zeros up to six digits; {MAX_WIDTH} is the most"),
        ),
    }
}

/// There must be one number, and no value of a row may look like a part of it.
fn check_number(pieces: &[Piece]) -> Result<(), FormatError> {
    let mut numbers = (0..).zip(pieces).filter(|(_, piece)| matches!(piece, Piece::Number(_))).map(|(at, _)| at);
    let Some(at) = numbers.next() else {
        return wrong(
            "has no place for the number, so different things would get the same text",
            "add `{}` or `{:06}`",
        );
    };
    if numbers.next().is_some() {
        return wrong("has the number twice", "remove one of them");
    }
    let (before, after) = (&pieces[..at], &pieces[at + 1..]);
    let has_values = |pieces: &[Piece]| pieces.iter().any(|piece| matches!(piece, Piece::Value(_)));
    let ends = |piece: Option<&Piece>, letter: fn(&str) -> Option<char>| {
        let letter = piece.and_then(|piece| if let Piece::Literal(text) = piece { letter(text) } else { None });
        letter.is_some_and(|letter| !letter.is_ascii_digit())
    };
    match (has_values(before), has_values(after)) {
        (true, true) => wrong(
            "has values on both sides of the number, and where they end could not be told",
            "put all values before the number, or all after it",
        ),
        (true, false) if !ends(before.last(), |text| text.chars().next_back()) => wrong(
            "has a value right before the number, and two things could get the same text",
            "put something between them that is no digit, such as `-`",
        ),
        (false, true) if !ends(after.first(), |text| text.chars().next()) => wrong(
            "has a value right after the number, and two things could get the same text",
            "put something between them that is no digit, such as `-`",
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_with_other_names_is_the_same_otherwise() {
        let format = TextFormat::parse("{{{a.year}}}-{b}/{:06}").unwrap();
        let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
        assert_eq!(format.renamed(last).as_deref(), Some("{{{year}}}-{b}/{:06}"));
        assert_eq!(format.renamed(str::to_owned), None);
    }

    #[test]
    fn formats_are_read_into_their_parts() {
        let pieces = |text: &str| TextFormat::parse(text).unwrap().pieces().to_vec();
        let literal = |text: &str| Piece::Literal(text.to_owned());
        assert_eq!(pieces("{}"), [Piece::Number(0)]);
        assert_eq!(pieces("ORD-{:06}"), [literal("ORD-"), Piece::Number(6)]);
        let value = |name: &str| Piece::Value(name.to_owned());
        assert_eq!(
            pieces("{{{year}}}-{order no}{land}/{:}"),
            [
                literal("{"),
                value("year"),
                literal("}-"),
                value("order no"),
                value("land"),
                literal("/"),
                Piece::Number(0)
            ]
        );
        assert_eq!(pieces("{:012}-{ä}"), [Piece::Number(12), literal("-"), value("ä")]);
    }

    /// Random values, with what could be mistaken for digits and signs, and all the numbers beside them.
    #[test]
    fn g1_two_things_never_get_the_same_text() {
        let values = ["", "1", "12", "-", "-1", "1-", "x", "x1", "1x", "--"];
        let mut formats = 0;
        let parts = ["{}", "{:02}", "{a}", "{b}", "-", "1", "x", "x-"];
        for code in 0..parts.len().pow(4) {
            let text: String = (0..4).map(|at| parts[code / parts.len().pow(at) % parts.len()]).collect();
            let Ok(format) = TextFormat::parse(&text) else { continue };
            formats += 1;
            let mut seen = std::collections::HashMap::new();
            let least = if format.confuses_signs() { 0 } else { -12 };
            for number in least..13_i64 {
                for (a, b) in values.iter().flat_map(|a| values.map(|b| (*a, b))) {
                    let made: String = format
                        .pieces()
                        .iter()
                        .map(|piece| match piece {
                            Piece::Literal(text) => text.clone(),
                            Piece::Number(width) => format!("{number:0width$}", width = usize::from(*width)),
                            Piece::Value(name) => if name == "a" { a } else { b }.to_owned(),
                        })
                        .collect();
                    let first = *seen.entry(made.clone()).or_insert(number);
                    assert_eq!(first, number, "{text} gives {made}");
                }
            }
        }
        assert!(formats > 100, "{formats} formats");
    }

    #[test]
    fn formats_that_make_no_sense_are_refused() {
        for text in [
            "",
            "ORD",
            "{year}",
            "{}{}",
            "{",
            "}",
            "{:",
            "x}",
            "{:6}",
            "{:x}",
            "{:065}",
            "{:00}",
            "{:0}",
            "{a}{}",
            "{}{a}",
            "{a}1{}",
            "{}0{a}",
            "{a}-{}-{b}",
            "{a}x{}{b}",
        ] {
            assert!(TextFormat::parse(text).is_err(), "{text}");
        }
    }
}
