//! A text that must not be seen. It has no `Display`, its `Debug` is masked, and only [`Secret::expose`] gives it out:
//! whoever calls that must never log, store or return what it gives.

use std::fmt;

/// A password, a token or a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides this text. White space around it (the line's end of a file) is no part of it.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(text.as_ref().trim().to_owned())
    }

    /// The text, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_by_what_holds_it() {
        #[derive(Debug)]
        #[allow(dead_code, reason = "it is there to be shown")]
        struct Holder(Option<Secret>);
        let text = format!("{:?}", Holder(Some(Secret::new("canary-7f3a\n"))));
        assert_eq!(text, "Holder(Some(Secret(…)))");
        assert_eq!(Secret::new("canary-7f3a\n").expose(), "canary-7f3a");
    }
}
