//! The identity of an entity: its kind's name and its key, written `@name@key`. This module must never accept a name
//! that could not be read back.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The identity of an entity. Ordered by name, then key: the order in which locks are taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntityId {
    name: String,
    key: String,
}

/// A text that is not an entity id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an entity id: it has the form @name@key, with a name that is not empty")]
pub struct ParseEntityIdError(String);

impl EntityId {
    /// The entity of this kind (taken in lower case) with this key (taken as it is).
    ///
    /// # Panics
    /// If the name is empty or contains `@`, because its text could not be read back. Use [`EntityId::try_new`] for
    /// names that are not written in the code.
    pub fn new(name: impl AsRef<str>, key: impl Into<String>) -> Self {
        match Self::try_new(name, key) {
            Ok(id) => id,
            Err(error) => panic!("{error}"),
        }
    }

    /// As [`EntityId::new`], for names that come from outside.
    pub fn try_new(name: impl AsRef<str>, key: impl Into<String>) -> Result<Self, ParseEntityIdError> {
        let (name, key) = (name.as_ref().to_lowercase(), key.into());
        if name.is_empty() || name.contains('@') {
            return Err(ParseEntityIdError(format!("@{name}@{key}")));
        }
        Ok(Self { name, key })
    }

    /// The kind of entity, in lower case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which one of that kind.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}@{}", self.name, self.key)
    }
}

impl FromStr for EntityId {
    type Err = ParseEntityIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, key) = text
            .strip_prefix('@')
            .and_then(|rest| rest.split_once('@'))
            .ok_or_else(|| ParseEntityIdError(text.to_owned()))?;
        Self::try_new(name, key).map_err(|_| ParseEntityIdError(text.to_owned()))
    }
}

impl TryFrom<String> for EntityId {
    type Error = ParseEntityIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<EntityId> for String {
    fn from(id: EntityId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_as_it_was_written() {
        for key in ["customers", "", "a@b", "Grün"] {
            let id = EntityId::new("Sequence", key);
            assert_eq!(id.name(), "sequence");
            assert_eq!(id.to_string().parse::<EntityId>(), Ok(id));
        }
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in ["", "@", "@name", "name@key", "@@key"] {
            let error = text.parse::<EntityId>().expect_err("not an id");
            assert!(error.to_string().contains(&format!("\"{text}\"")), "{error}");
        }
    }

    #[test]
    fn locks_are_ordered_by_name_then_key() {
        // As texts these two would sort the other way round: '@' lies behind '-'.
        assert!(EntityId::new("a", "z") < EntityId::new("a-b", "a"));
    }
}
