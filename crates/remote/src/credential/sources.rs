//! Tokens and settings that lie at hand: given once, in a file, in the environment. This module must never ask anybody.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::{AccessToken, Credential, CredentialError};
use crate::secret::Secret;

/// How long a token from a file is kept before the file is read again: whoever renews it writes it anew.
const FILE_HOLDS: Duration = Duration::from_mins(6);

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Where settings are looked up by name: the process's environment, or a fixed list in its place.
#[derive(Clone)]
pub struct Variables(Arc<Lookup>);

impl Variables {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self(Arc::new(|name| std::env::var(name).ok()))
    }

    /// These and no others.
    pub fn of<N: Into<String>, V: Into<String>>(values: impl IntoIterator<Item = (N, V)>) -> Self {
        let values: HashMap<String, String> =
            values.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self(Arc::new(move |name| values.get(name).cloned()))
    }

    /// The value under this name; an empty one is none.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// The value under this name, which must be there.
    pub(super) fn required(&self, name: &str, purpose: &str) -> Result<String, CredentialError> {
        self.get(name)
            .ok_or_else(|| CredentialError::NotConfigured(format!("{purpose} needs the environment variable {name}")))
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Variables(…)")
    }
}

/// A token that is known and does not end.
#[derive(Debug, Clone)]
pub struct StaticToken(Secret);

impl StaticToken {
    /// This token.
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }
}

#[async_trait]
impl Credential for StaticToken {
    async fn token(&self, _: &str) -> Result<AccessToken, CredentialError> {
        Ok(AccessToken { secret: self.0.clone(), expires: None })
    }
}

/// A token that is read from a file, again and again, so that it can be replaced while the program runs.
#[derive(Debug, Clone)]
pub struct TokenFile(PathBuf);

impl TokenFile {
    /// The token in this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

#[async_trait]
impl Credential for TokenFile {
    async fn token(&self, _: &str) -> Result<AccessToken, CredentialError> {
        let secret = read_secret(&self.0).await?;
        Ok(AccessToken { secret, expires: Some(SystemTime::now() + FILE_HOLDS) })
    }
}

/// The secret in a file.
pub(super) async fn read_secret(path: &Path) -> Result<Secret, CredentialError> {
    let at = path.to_owned();
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(at)).await;
    let cannot = |error: &dyn fmt::Display| {
        CredentialError::NotConfigured(format!("cannot read the token file {}: {error}", path.display()))
    };
    let secret = match read {
        Ok(Ok(text)) => Secret::new(text),
        Ok(Err(error)) => return Err(cannot(&error)),
        Err(error) => return Err(cannot(&error)),
    };
    if secret.is_empty() {
        return Err(CredentialError::NotConfigured(format!("the token file {} is empty", path.display())));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let file = TokenFile::new(&path);
        assert_eq!(file.token("r").await.unwrap().secret.expose(), "one");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(file.token("r").await.unwrap().secret.expose(), "two");
        std::fs::write(&path, " \n").unwrap();
        let error = file.token("r").await.unwrap_err().to_string();
        assert!(error.contains("is empty"), "{error}");
        std::fs::remove_file(&path).unwrap();
        let error = file.token("r").await.unwrap_err().to_string();
        assert!(error.contains("cannot read the token file") && error.contains("token"), "{error}");
    }
}
