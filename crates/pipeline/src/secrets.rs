//! What may be a secret in a text that somebody wrote: the password before the host of an address, and the values of
//! parameters that are named like one. Errors show parts of the file, and a terminal's lines end up in the logs of
//! whoever runs the program. This module must never change where anything stands: what is hidden keeps its length.

/// Parameters of addresses whose values let somebody in.
const SECRET: [&str; 6] = ["sig", "password", "sslpassword", "accountkey", "sharedaccesskey", "accesskey"];

/// Parts of the names of parameters whose values are not shown. Hiding too much costs nothing, so it is a wider net.
const DOUBTFUL: [&str; 8] = ["sig", "pass", "pwd", "key", "token", "secret", "code", "cred"];

/// Whether a parameter of an address is a password or a signature, however it is written.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = decoded(name);
    SECRET.iter().any(|known| *known == name)
}

/// A name in lower case, with its `%41` as the letters that they stand for.
fn decoded(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = (first == b'%').then(|| after.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = digits.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).to_ascii_lowercase()
}

/// The text with stars in the place of what may be a secret. A name in `${...}` is none; what stands in for it may be.
pub(crate) fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(is_boundary).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        mask_word(word, &mut shown);
        let boundary = after.chars().next().map_or(0, char::len_utf8);
        shown.push_str(&after[..boundary]);
        rest = &after[boundary..];
    }
    shown
}

/// No address goes on behind such a character.
fn is_boundary(c: char) -> bool {
    c.is_whitespace() || c == '"' || c == '\''
}

fn mask_word(word: &str, shown: &mut String) {
    let (scheme, rest) = match word.find("://") {
        Some(at) => word.split_at(at + 3),
        None => ("", word),
    };
    shown.push_str(scheme);
    let (before, after) = match rest.rfind('@') {
        Some(at) => rest.split_at(at),
        None => ("", rest),
    };
    // A database's user is no secret; what stands before any other host may be a token.
    match before.split_once(':') {
        Some((user, password)) => {
            shown.push_str(user);
            shown.push(':');
            stars(password, shown);
        }
        None if scheme.is_empty() || scheme.starts_with("postgres") => shown.push_str(before),
        None => stars(before, shown),
    }
    if after.contains(['?', ';']) {
        for part in after.split_inclusive(['?', '&', ';']) {
            mask_parameter(part, shown);
        }
    } else {
        shown.push_str(after);
    }
}

fn mask_parameter(part: &str, shown: &mut String) {
    let body = part.trim_end_matches(['?', '&', ';']);
    let end = &part[body.len()..];
    match body.split_once('=') {
        Some((name, value)) if DOUBTFUL.iter().any(|word| decoded(name).contains(word)) => {
            shown.push_str(name);
            shown.push('=');
            stars(value, shown);
        }
        _ => shown.push_str(body),
    }
    shown.push_str(end);
}

/// A star for each byte, except for the names of variables.
fn stars(secret: &str, shown: &mut String) {
    let mut rest = secret;
    while !rest.is_empty() {
        let name = rest.strip_prefix("${").map(|inside| inside.split([':', '}']).next().unwrap_or_default());
        let kept = match name {
            Some(name) if rest[2 + name.len()..].starts_with('}') => name.len() + 3,
            Some(name) if rest[2 + name.len()..].starts_with(":-") => name.len() + 4,
            _ => 0,
        };
        if kept > 0 {
            shown.push_str(&rest[..kept]);
            rest = &rest[kept..];
            continue;
        }
        let first = rest.chars().next().map_or(0, char::len_utf8);
        shown.extend(std::iter::repeat_n('*', first));
        rest = &rest[first..];
    }
}

#[cfg(test)]
mod tests {
    use super::{is_secret, masked};

    #[test]
    fn what_may_be_a_secret_is_hidden_and_nothing_moves() {
        for (text, shown) in [
            ("url: postgresql://u:pässword@h/d\n", "url: postgresql://u:*********@h/d\n"),
            ("postgresql://u:p/a@b@h/d", "postgresql://u:*****@h/d"),
            ("postgresql://u:${P}@h/d", "postgresql://u:${P}@h/d"),
            ("postgresql://u:${P:-pw}x@h/d", "postgresql://u:${P:-****@h/d"),
            ("postgresql://u@h/d?sslmode=require&password=pw", "postgresql://u@h/d?sslmode=require&password=**"),
            ("{url: \"https://token@h/t?SIG=a%2Bb&sv=1\"}", "{url: \"https://*****@h/t?SIG=*****&sv=1\"}"),
            ("u:pw@h", "u:**@h"),
            ("AccountName=a;AccountKey=b+/=;x", "AccountName=a;AccountKey=****;x"),
            ("h?pass%77ord=pw", "h?pass%77ord=**"),
            ("SELECT key=5, a@b FROM source", "SELECT key=5, a@b FROM source"),
            ("files: az://data/*.parquet", "files: az://data/*.parquet"),
            ("", ""),
            ("${", "${"),
            ("a:${@b", "a:**@b"),
        ] {
            assert_eq!(masked(text), shown);
            assert_eq!(masked(text).len(), text.len(), "{text}");
        }
    }

    #[test]
    fn names_of_secrets_are_known_however_they_are_written() {
        for name in ["sig", "SIG", "Password", "pass%77ord", "%73ig"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["sslmode", "sigh", "", "%", "%zz", "sv"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
