//! The places of values within the columns of a JSON file, as texts: `page.path` is a member of an object, `items[].sku` one
//! of the objects of a list, `tags[]` the elements of a list. Must never give two places one text, nor one text two places.

/// A step on the way to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Into the column, or the member of an object, of this name.
    Name(String),
    /// Into the elements of a list.
    Element,
}

/// A name as a path has it: what would be taken for a step is behind a backslash.
pub(super) fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut characters = name.chars().peekable();
    while let Some(c) = characters.next() {
        if matches!(c, '.' | '\\') || (c == '[' && characters.peek() == Some(&']')) {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// The path of a member of what is at this path.
pub(super) fn member(path: &str, name: &str) -> String {
    format!("{path}.{}", escaped(name))
}

/// The path of the elements of what is at this path.
pub(super) fn element(path: &str) -> String {
    format!("{path}[]")
}

/// The path of steps, of which the first is a name.
fn path(steps: &[Step]) -> String {
    let join = |path: Option<String>, step: &Step| {
        Some(match (path, step) {
            (Some(path), Step::Name(name)) => member(&path, name),
            (path, Step::Element) => element(&path.unwrap_or_default()),
            (None, Step::Name(name)) => escaped(name),
        })
    };
    steps.iter().fold(None, join).unwrap_or_default()
}

/// What is wrong with a value that is somewhere within others.
#[derive(Debug)]
pub(super) struct Fault {
    /// The way to it, the last step first.
    steps: Vec<Step>,
    pub(super) text: String,
}

impl Fault {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { steps: Vec::new(), text: text.into() }
    }

    /// The same, as it is seen from where this step begins.
    pub(super) fn within(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The same, as it is seen from the object that has a member.
    pub(super) fn within_member(self, name: &str) -> Self {
        self.within(Step::Name(name.to_owned()))
    }

    /// Where the value is, seen from where all began; nothing if that is the record.
    pub(super) fn path(&self) -> Option<String> {
        let steps: Vec<Step> = self.steps.iter().rev().cloned().collect();
        (!steps.is_empty()).then(|| path(&steps))
    }
}

/// The steps of a path, of which the first is a name. A text that is no path is one name.
pub(super) fn steps(path: &str) -> Vec<Step> {
    let (mut steps, mut name) = (Vec::new(), String::new());
    let mut rest = path;
    loop {
        let Some(c) = rest.chars().next() else {
            steps.push(Step::Name(name));
            return steps;
        };
        if let Some(after) = rest.strip_prefix("[]") {
            steps.push(Step::Name(std::mem::take(&mut name)));
            steps.push(Step::Element);
            rest = after;
            while let Some(after) = rest.strip_prefix("[]") {
                steps.push(Step::Element);
                rest = after;
            }
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None if rest.is_empty() => return steps,
                None => return vec![Step::Name(path.to_owned())],
            }
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '.' => steps.push(Step::Name(std::mem::take(&mut name))),
            '\\' => {
                let next = rest.chars().next().unwrap_or(c);
                rest = rest.strip_prefix(next).unwrap_or_default();
                name.push(next);
            }
            _ => name.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str) -> String {
        let step = |step: &Step| match step {
            Step::Name(name) => format!("<{name}>"),
            Step::Element => "[]".to_owned(),
        };
        steps(path).iter().map(step).collect()
    }

    #[test]
    fn a_path_is_steps() {
        for (path, expected) in [
            ("a", "<a>"),
            ("", "<>"),
            ("a.b.c", "<a><b><c>"),
            ("tags[]", "<tags>[]"),
            ("items[].sku", "<items>[]<sku>"),
            ("a[][].b[]", "<a>[][]<b>[]"),
            ("a\\.b", "<a.b>"),
            ("a\\\\.b", "<a\\><b>"),
            ("a\\[].b", "<a[]><b>"),
            ("price [EUR].x", "<price [EUR]><x>"),
            ("a.", "<a><>"),
            ("a\\", "<a\\>"),
            // No path.
            ("a[]b", "<a[]b>"),
        ] {
            assert_eq!(shown(path), expected, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_names_come_back(
            names in proptest::collection::vec(("[a.\\[\\]\\\\é]{0,4}", 0_usize..3), 1..4)
        ) {
            let (mut expected, mut path) = (Vec::new(), String::new());
            for (at, (name, lists)) in names.iter().enumerate() {
                path = if at == 0 { escaped(name) } else { member(&path, name) };
                expected.push(Step::Name(name.clone()));
                for _ in 0..*lists {
                    path = element(&path);
                    expected.push(Step::Element);
                }
            }
            proptest::prop_assert_eq!(steps(&path), expected.clone());
            let fault = expected.iter().rev().fold(Fault::new(""), |fault, step| fault.within(step.clone()));
            proptest::prop_assert_eq!(fault.path(), Some(path));
        }
    }
}
