//! What went wrong with a place: a few kinds, by what the caller should do, and a text that says what happened, to
//! what, and what to do next. The text holds no credential: of what a service answers only its status and its error
//! code are taken, and URLs are the ones that the user wrote, which cannot hold any.

use std::error::Error as StdError;

/// What the caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such object, or no such container.
    NotFound,
    /// The object is not the one it was: its version is another.
    Changed,
    /// The service does not accept the credentials, or there are none.
    Unauthorised,
    /// The service does not answer, or answers that it cannot now. Trying later may help.
    Unavailable,
    /// The request makes no sense: a malformed URL, a setting that contradicts another.
    Invalid,
    /// Anything else: a local disk that is full, an answer that is not understood.
    Other,
}

/// Why an operation on a place failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What the caller should do.
    pub kind: ErrorKind,
    /// What happened, and to what.
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
}

/// The outcome of an operation on a place.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The object is another one than `shown` was.
    pub(crate) fn changed(shown: &str) -> Self {
        Self::new(ErrorKind::Changed, format!("{shown} has changed: it is not the object that it was"))
    }

    /// An operation of the operating system failed.
    pub fn io(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Unauthorised,
            _ => ErrorKind::Other,
        };
        let e = Self::new(kind, format!("cannot {doing} {}: {error}", path.display()));
        match error.kind() {
            std::io::ErrorKind::StorageFull => e.help("free some space, then run again"),
            std::io::ErrorKind::PermissionDenied => e.help("give this user the permission, then run again"),
            std::io::ErrorKind::NotFound
            | std::io::ErrorKind::AlreadyExists
            | std::io::ErrorKind::IsADirectory
            | std::io::ErrorKind::NotADirectory => e,
            _ => e.help("mend the cause (a failing disk?), then run again"),
        }
    }

    /// What a service answered, or that it did not: `cannot {doing} {shown}: …`.
    pub(crate) fn from_service(doing: &str, shown: &str, error: &object_store::Error, advice: &Advice) -> Self {
        let told = Told::of(error);
        let because = told.because();
        let e = |kind| Self::new(kind, format!("cannot {doing} {shown}: {because}"));
        match error {
            _ if told.is_container_missing() => {
                e(ErrorKind::NotFound).help(format!("correct the name, or make the container: {}", advice.container))
            }
            object_store::Error::NotFound { .. } => e(ErrorKind::NotFound),
            object_store::Error::Precondition { .. } | object_store::Error::NotModified { .. } => Self::changed(shown),
            _ if told.is_about_credentials(error) => e(ErrorKind::Unauthorised).help(advice.credentials),
            object_store::Error::InvalidPath { .. } | object_store::Error::UnknownConfigurationKey { .. } => {
                e(ErrorKind::Invalid)
            }
            _ if told.is_away() => e(ErrorKind::Unavailable).help(
                "see whether the service can be reached from here and the address is right, then run again; \
                 SERIATIM_STORAGE_TIMEOUT is how many seconds a request is repeated",
            ),
            _ => e(ErrorKind::Other),
        }
    }
}

/// What to tell a user of one kind of service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Advice {
    /// How to give credentials.
    pub(crate) credentials: &'static str,
    /// How to make a container.
    pub(crate) container: &'static str,
}

/// What an error of the client library tells, taken from its text: its types are not public.
struct Told {
    text: String,
    status: Option<u16>,
    code: Option<String>,
    /// The innermost cause: what the operating system said.
    root: String,
}

impl Told {
    fn of(error: &object_store::Error) -> Self {
        let mut root: &dyn StdError = error;
        let mut text = error.to_string();
        while let Some(source) = root.source() {
            root = source;
            text.push('\n');
            text.push_str(&root.to_string());
        }
        let status = between(&text, "status code: ", ":").and_then(|s| s.get(..3)?.parse().ok());
        let code = between(&text, "<Code>", "</Code>")
            .filter(|code| code.len() < 64 && code.bytes().all(|b| b.is_ascii_alphanumeric()))
            .map(str::to_owned);
        let root = root.to_string();
        Self { text, status, code, root }
    }

    fn because(&self) -> String {
        match (&self.status, &self.code) {
            _ if self.is_about_identity() => {
                "there are no credentials, and this machine has no identity of its own to give".to_owned()
            }
            (Some(status), Some(code)) => format!("the service answered {status} ({code})"),
            (Some(status), None) => format!("the service answered {status}"),
            (None, Some(code)) => format!("the service answered {code}"),
            (None, None) if self.text.contains("status code: ") => "the service answered with an error".to_owned(),
            // The first line may be a whole document; a cause of the operating system is short.
            (None, None) => self.root.lines().next().unwrap_or_default().chars().take(200).collect(),
        }
    }

    fn is_container_missing(&self) -> bool {
        matches!(self.code.as_deref(), Some("ContainerNotFound" | "NoSuchBucket" | "FilesystemNotFound"))
            || self.text.contains("The specified bucket does not exist")
    }

    fn is_about_credentials(&self, error: &object_store::Error) -> bool {
        matches!(error, object_store::Error::Unauthenticated { .. } | object_store::Error::PermissionDenied { .. })
            || matches!(self.status, Some(401 | 403))
            || matches!(self.code.as_deref(), Some("NoAuthenticationInformation" | "PublicAccessNotPermitted"))
            || self.is_about_identity()
            || ["/oauth2/", "oauth2.googleapis"].iter().any(|place| self.text.contains(place))
    }

    /// Whether the machine was asked for an identity of its own: no credentials were given.
    fn is_about_identity(&self) -> bool {
        let places = ["169.254.169.254", "169.254.170.2", "metadata.google.internal"];
        places.iter().any(|place| self.text.contains(place))
    }

    fn is_away(&self) -> bool {
        if let Some(status) = self.status {
            return status >= 500 || status == 429 || status == 408;
        }
        let signs = ["error sending request", "error decoding response body", "request or response body error"];
        signs.iter().any(|sign| self.text.contains(sign)) || self.text.contains("HTTP error")
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split(end).next()
}
