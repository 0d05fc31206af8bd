//! Alternatives in a pattern, as shells have them: `data/{de,fr}/*.parquet` is two patterns. Must never look for a file.

/// So many patterns may come of one.
const MOST: usize = 10_000;

/// Whether a pattern has alternatives.
pub(super) fn has_braces(pattern: &str) -> bool {
    group(pattern).is_some()
}

/// The patterns that a pattern stands for, in the order in which they are written; `None` if they are too many.
pub(super) fn alternatives(pattern: &str) -> Option<Vec<String>> {
    let (mut done, mut open) = (Vec::new(), vec![pattern.to_owned()]);
    while let Some(text) = open.pop() {
        if done.len() + open.len() > MOST {
            return None;
        }
        match group(&text) {
            Some((start, commas, end)) => {
                let ends = commas.iter().copied().chain([end]);
                let starts = std::iter::once(start).chain(commas.iter().copied());
                let texts: Vec<String> = starts
                    .zip(ends)
                    .map(|(from, to)| format!("{}{}{}", &text[..start], &text[from + 1..to], &text[end + 1..]))
                    .collect();
                open.extend(texts.into_iter().rev());
            }
            None => done.push(text),
        }
    }
    Some(done)
}

/// The first braces that have a comma between them: where they are, and the commas.
fn group(text: &str) -> Option<(usize, Vec<usize>, usize)> {
    let bytes = text.as_bytes();
    (0..bytes.len()).filter(|&at| bytes[at] == b'{').find_map(|start| {
        let (mut depth, mut commas) = (0_usize, Vec::new());
        for (at, byte) in bytes.iter().enumerate().skip(start) {
            match byte {
                b'{' => depth += 1,
                b',' if depth == 1 => commas.push(at),
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return (!commas.is_empty()).then_some((start, commas, at));
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::{alternatives, has_braces};

    #[test]
    fn braces_are_alternatives() {
        for (pattern, expected) in [
            ("a", &["a"][..]),
            ("d/{a,b}.parquet", &["d/a.parquet", "d/b.parquet"]),
            ("{a,b}/{c,d}", &["a/c", "a/d", "b/c", "b/d"]),
            ("x{a,{b,c}d,}", &["xa", "xbd", "xcd", "x"]),
            ("{x}{é,ö}", &["{x}é", "{x}ö"]),
            // No alternatives: the names have braces.
            ("{a}", &["{a}"]),
            ("{a,b", &["{a,b"]),
            ("a},{b", &["a},{b"]),
        ] {
            assert_eq!(alternatives(pattern).expect("a few"), expected, "{pattern}");
            assert_eq!(has_braces(pattern), expected.len() > 1, "{pattern}");
        }
        assert_eq!(alternatives(&"{a,b}".repeat(40)), None);
    }
}
