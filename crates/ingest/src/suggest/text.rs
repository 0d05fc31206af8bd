//! The text of a pipeline file, with comments. Must never write what the reader of pipeline files would take for
//! something else: names that are not plain are quoted, and comments have no line breaks of their own.

use std::fmt::Write as _;

use seriatim_pipeline::model::SourceFormat;

use super::why::{counted, grouped, shown};
use super::{SuggestedTable, Suggestion};

/// Where comments and lists are broken.
const WIDTH: usize = 110;
/// What YAML takes for something else than text.
const NOT_TEXT: &[&str] = &["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];

/// Writes it.
pub(super) fn write(suggestion: &Suggestion) -> String {
    let mut text = String::new();
    let records = counted(suggestion.records, "record");
    let looked = if suggestion.looked_at == suggestion.records {
        format!("all {records}")
    } else {
        format!("{} of {records}", grouped(suggestion.looked_at))
    };
    comment(
        &mut text,
        "",
        &format!(
            "Written by `seriatim init`, which looked at {looked} in {}. What it says of columns holds in these records; \
             whether it holds in all that will come, you know better. Change what is wrong: `seriatim check` tells \
             whether this file fits the data, `seriatim plan` what a run would do.",
            counted(suggestion.files, "file")
        ),
    );
    let _ = writeln!(text, "version: 1\nname: {}\n\nsource:", scalar(&suggestion.name));
    comment(&mut text, "  ", "Relative paths start at this file's folder.");
    match suggestion.source.as_slice() {
        [one] => {
            let _ = writeln!(text, "  files: {}", scalar(one));
        }
        several => {
            text.push_str("  files:\n");
            for pattern in several {
                let _ = writeln!(text, "    - {}", scalar(pattern));
            }
        }
    }
    how_texts_are_read(&mut text, suggestion);
    if !suggestion.left_out.is_empty() {
        text.push('\n');
        comment(&mut text, "", "Columns that no table has:");
        for left in &suggestion.left_out {
            comment(&mut text, "", &format!("- {}: {}", shown(&left.column), shown(&left.why)));
        }
    }
    text.push_str("\ntables:\n");
    for (index, one) in suggestion.tables.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        table(&mut text, one);
    }
    let _ = write!(text, "\noutput:\n  path: {}\n\n", scalar(&suggestion.output));
    comment(
        &mut text,
        "",
        "Sequences, known keys and the memory of files. Keep it: it makes IDs stable from run to run.",
    );
    text.push_str("state: .seriatim\n");
    text
}

/// The settings of text files.
fn how_texts_are_read(text: &mut String, suggestion: &Suggestion) {
    let format = match suggestion.format {
        None | Some(SourceFormat::Parquet) => None,
        Some(SourceFormat::Csv) => Some("csv"),
        Some(SourceFormat::Ndjson) => Some("ndjson"),
    };
    if let Some(format) = format {
        let _ = writeln!(text, "  format: {format}");
    }
    if let Some(delimiter) = suggestion.delimiter {
        let _ = writeln!(text, "  csv: {{delimiter: {}}}", scalar(&delimiter.to_string()));
    }
    if suggestion.columns.iter().all(|column| column.declared.is_none()) {
        return;
    }
    let words = "What the values look like. A number that is a name (a code, a telephone number) is better a string; an \
                 amount of money a decimal(12,2). A value that is none of its column's type ends a run, and it says where.";
    comment(text, "  ", words);
    text.push_str("  columns:\n");
    for column in &suggestion.columns {
        if let Some(declared) = &column.declared {
            let _ = writeln!(text, "    {}: {declared}", scalar(&column.name));
        }
    }
}

fn table(text: &mut String, table: &SuggestedTable) {
    let _ = writeln!(text, "  {}:", scalar(&table.name));
    for why in &table.why {
        comment(text, "    ", why);
    }
    for beware in &table.beware {
        comment(text, "    ", &format!("Beware: {beware}"));
    }
    match table.key.as_slice() {
        [] => {}
        [one] => {
            let _ = writeln!(text, "    key: {}", scalar(one));
        }
        several => list(text, "key", several),
    }
    let _ = writeln!(text, "    id: {}", scalar(&table.id));
    for (setting, names) in [("references", &table.references), ("columns", &table.columns)] {
        if !names.is_empty() {
            list(text, setting, names);
        }
    }
    if table.null_keys {
        text.push_str("    on_null_key: null\n");
    }
}

/// A list in brackets, broken where it is too long.
fn list(text: &mut String, setting: &str, names: &[String]) {
    let mut line = format!("    {setting}: [");
    let indent = " ".repeat(line.len());
    for (index, name) in names.iter().enumerate() {
        let mut item = scalar(name);
        item.push(if index + 1 == names.len() { ']' } else { ',' });
        if index > 0 && line.chars().count() + 1 + item.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line.clone_from(&indent);
        } else if index > 0 {
            line.push(' ');
        }
        line.push_str(&item);
    }
    text.push_str(&line);
    text.push('\n');
}

/// Words behind `#`, broken into lines.
fn comment(text: &mut String, indent: &str, words: &str) {
    let mut line = format!("{indent}#");
    // What stands in backticks is to be copied, and stays in one line.
    let mut in_code = false;
    let is_break = |c: char| {
        in_code ^= c == '`';
        c == ' ' && !in_code
    };
    for word in words.split(is_break) {
        if line.len() > indent.len() + 1 && line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = format!("{indent}#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

/// A text as YAML has it: plain where that cannot be taken for anything else, and in quotes otherwise.
fn scalar(value: &str) -> String {
    let begins_well = value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        || value.starts_with("../")
        || value.starts_with('/');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./*".contains(c);
    if begins_well && value.chars().all(is_plain) && !NOT_TEXT.contains(&value.to_lowercase().as_str()) {
        return value.to_owned();
    }
    // A `${` stands for a variable, wherever it is written.
    let value = value.replace("${", "$${");
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            // Also what readers take for a line break, or for nothing at all.
            c if c.is_control() || ('\u{2028}'..='\u{2029}').contains(&c) || c == '\u{feff}' => {
                let _ = write!(quoted, "\\U{:08x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::scalar;

    #[test]
    fn names_are_quoted_where_they_have_to_be() {
        for (name, written) in [
            ("customer_email", "customer_email"),
            ("data/sales-*.parquet", "data/sales-*.parquet"),
            ("*.parquet", "\"*.parquet\""),
            ("no", "\"no\""),
            ("1", "\"1\""),
            ("a: b", "\"a: b\""),
            ("a\"b\\c\n", "\"a\\\"b\\\\c\\n\""),
            ("${HOME}", "\"$${HOME}\""),
            ("größe", "\"größe\""),
            ("", "\"\""),
        ] {
            assert_eq!(scalar(name), written);
        }
    }
}
