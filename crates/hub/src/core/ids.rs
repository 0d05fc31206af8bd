//! Names for what must not be mixed up: each number and each text id of the core has its own type. This module must
//! never make a number up: numbers come from the core's counter, texts from requests.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Position of a batch in the hub's log: 1, 2, 3, … since it was opened. 0 stands for everything that was loaded.
    BatchSeq
);
number!(
    /// One execution of an orchestration: a start, or a continue-as-new. Never used twice in one store.
    ExecutionNo
);
number!(
    /// One message in an orchestration's inbox or in an entity's queue, in order of arrival.
    MessageSeq
);
number!(
    /// One scheduled activity.
    ActivitySeq
);
number!(
    /// One durable timer.
    TimerSeq
);
number!(
    /// One worker's stream of work items, while it lives. The host chooses it and never uses one twice.
    WorkerId
);
number!(
    /// One request of a client or a worker, until it is answered. The host chooses it and never uses one twice.
    RequestId
);
number!(
    /// One handing-out of a work item; part of its completion token.
    LeaseNo
);

/// The id of an orchestration instance: any text that is not empty and does not begin with `@`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for InstanceId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for InstanceId {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Borrow<str> for InstanceId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of an entity, `@name@key`, with the name in lower case: names are not case-sensitive, keys are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(Arc<str>);

impl EntityId {
    /// Reads `@name@key`; the error says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an entity id; write it as @name@key");
        let (name, key) = text.strip_prefix('@').and_then(|rest| rest.split_once('@')).ok_or_else(wrong)?;
        if name.is_empty() {
            return Err(wrong());
        }
        if name.chars().any(char::is_uppercase) {
            return Ok(Self(format!("@{}@{key}", name.to_lowercase()).into()));
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The entity's name, in lower case: what a worker filters by.
    pub fn name(&self) -> &str {
        self.0[1..].split_once('@').map_or("", |(name, _)| name)
    }
}

impl Borrow<str> for EntityId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_ids_ignore_the_case_of_the_name_and_keep_that_of_the_key() {
        let id = EntityId::parse("@Counter@Key@1").unwrap();
        assert_eq!(id.as_str(), "@counter@Key@1");
        assert_eq!(id.name(), "counter");
        assert_eq!(EntityId::parse("@counter@").unwrap().as_str(), "@counter@");
        for wrong in ["", "counter", "@counter", "@@key"] {
            assert!(EntityId::parse(wrong).unwrap_err().contains("@name@key"), "{wrong}");
        }
    }
}
