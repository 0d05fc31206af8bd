//! Values from the environment: `${NAME}` and `${NAME:-default}` in scalars, and `$${` for a literal `${`. It works on
//! the text of a scalar that has been parsed already, so whatever a variable holds stays one text: it can never become
//! another key or list. This module must never read the environment itself.

/// Why a placeholder could not be filled in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EnvError {
    /// Which `${` of the text it is, from 0, escaped ones included.
    pub(crate) nth: usize,
    pub(crate) message: String,
    pub(crate) help: String,
}

/// What became of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// Whether something came from a placeholder.
    pub(crate) substituted: bool,
}

/// Fills in the placeholders of `text`. All that cannot be filled in is told, not only the first.
pub(crate) fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, Vec<EnvError>> {
    let mut expanded = Expanded { text: String::with_capacity(text.len()), substituted: false };
    let mut errors = Vec::new();
    let mut rest = text;
    let mut nth = 0;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            expanded.text.push_str(before);
            expanded.text.push_str("${");
            rest = &from[2..];
        } else {
            expanded.text.push_str(before);
            match placeholder(&from[2..], env) {
                Ok((value, after)) => {
                    expanded.text.push_str(&value);
                    expanded.substituted = true;
                    rest = after;
                }
                Err((message, help)) => {
                    errors.push(EnvError { nth, message, help });
                    rest = &from[2..];
                }
            }
        }
        nth += 1;
    }
    expanded.text.push_str(rest);
    if errors.is_empty() { Ok(expanded) } else { Err(errors) }
}

/// Fills in the placeholders of a text that a pipeline keeps as it was written, such as an address with a password. The
/// error names the variable that is missing, and shows no other.
pub fn fill_in(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let expanded = expand(text, env).map_err(|errors| {
        errors.into_iter().next().map_or_else(|| "a placeholder is wrong".to_owned(), |error| error.message)
    })?;
    Ok(expanded.text)
}

/// The value of the placeholder that begins after `${`, and what follows its `}`.
fn placeholder<'a>(text: &'a str, env: &dyn Fn(&str) -> Option<String>) -> Result<(String, &'a str), (String, String)> {
    let malformed = || {
        let help = "write `${NAME}` or `${NAME:-default}`, where a name is made of letters, digits and `_`; \
                    for a literal `${` write `$${`";
        ("this is not a placeholder for an environment variable".to_owned(), help.to_owned())
    };
    let (inside, after) = text.split_once('}').ok_or_else(malformed)?;
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err(malformed());
    }
    match (env(name), default) {
        // As in a shell, `:-` also stands in for a variable that is set and empty.
        (Some(value), None) => Ok((value, after)),
        (Some(value), Some(_)) if !value.is_empty() => Ok((value, after)),
        (_, Some(default)) => Ok((default.to_owned(), after)),
        (None, None) => Err((
            format!("the environment variable `{name}` is not set"),
            format!("set it, or give a default: `${{{name}:-default}}`; for a literal `${{` write `$${{`"),
        )),
    }
}

/// The place of the `nth` `${` in `written`, the text of the scalar as it stands in the file; its length reaches to the
/// closing brace. `None` if escapes hide it.
pub(crate) fn locate(written: &str, nth: usize) -> Option<(usize, usize)> {
    let (start, _) = written.match_indices("${").nth(nth)?;
    let end = written[start..].find('}').map_or(start + 2, |end| start + end + 1);
    Some((start, end))
}

#[cfg(test)]
mod tests {
    use super::{Expanded, expand};

    fn with(text: &str) -> Result<Expanded, Vec<super::EnvError>> {
        expand(text, &|name| match name {
            "A" => Some("alpha".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${A}".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn fills_in_values_and_defaults() {
        for (text, result) in [
            ("plain $ text $A }", "plain $ text $A }"),
            ("${A}", "alpha"),
            ("x${A}y${A}", "xalphayalpha"),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("[${EMPTY}]", "[]"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b}", "a:-b"),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            ("é${A}é", "éalphaé"),
        ] {
            assert_eq!(with(text).expect(text).text, result, "{text}");
        }
    }

    #[test]
    fn a_value_is_not_looked_at_again() {
        assert_eq!(with("${NESTED}").expect("it is set").text, "${A}");
    }

    #[test]
    fn tells_every_placeholder_that_cannot_be_filled() {
        let errors = with("$${A} ${NONE} ${A} ${1x} ${").expect_err("three are wrong");
        assert_eq!(errors.iter().map(|e| e.nth).collect::<Vec<_>>(), [1, 3, 4]);
    }
}
