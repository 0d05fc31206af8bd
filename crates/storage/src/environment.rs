//! The variables that credentials, endpoints and limits come from. Its `Debug` shows names, never values.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Variables, by name: those of the process, or others in their place.
///
/// | service | variables |
/// |---|---|
/// | Azure | `AZURE_STORAGE_CONNECTION_STRING`, `AZURE_STORAGE_ACCOUNT`, `AZURE_STORAGE_KEY`, `AZURE_STORAGE_SAS_TOKEN`, `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET`, `AZURE_FEDERATED_TOKEN_FILE`, `IDENTITY_ENDPOINT`, `AZURE_STORAGE_ENDPOINT`, `AZURITE_BLOB_STORAGE_URL` |
/// | S3 | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_WEB_IDENTITY_TOKEN_FILE`, … |
/// | Google | `GOOGLE_APPLICATION_CREDENTIALS`, `GOOGLE_SERVICE_ACCOUNT`, … |
/// | all | `SERIATIM_STORAGE_TIMEOUT`: for how many seconds a request is repeated; default 60 |
#[derive(Clone, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

const TIMEOUT: &str = "SERIATIM_STORAGE_TIMEOUT";
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);

impl Environment {
    /// The process's own. Variables that are not text are left out.
    pub fn process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { variables: std::env::vars_os().filter_map(text).collect() }
    }

    /// These and no others.
    pub fn of<N: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (N, V)>) -> Self {
        Self { variables: variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }

    /// How long a request is repeated before it counts as failed. `SERIATIM_STORAGE_TIMEOUT`, in seconds, more than 0.
    pub fn timeout(&self) -> Duration {
        let seconds = self.get(TIMEOUT).and_then(|text| text.parse::<f64>().ok());
        let given = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        given.filter(|timeout| !timeout.is_zero()).unwrap_or(DEFAULT_TIMEOUT)
    }

    /// The value of a variable, if it has one that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// Names and values that start with `prefix`, the names in small letters, as `object_store` knows its settings.
    pub(crate) fn settings(&self, prefix: &str) -> impl Iterator<Item = (String, &str)> {
        let wanted = self.variables.iter().filter(move |(name, _)| name.starts_with(prefix));
        wanted.map(|(name, value)| (name.to_ascii_lowercase(), value.trim())).filter(|(_, value)| !value.is_empty())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}
