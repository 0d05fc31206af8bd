//! The one error type of durable code. A [`Failure`] is what an activity, an orchestration or an entity operation ends
//! with when it does not succeed; it travels through the hub as the protocol's `TaskFailureDetails` and arrives whole.
//! This module must never decide what happens after a failure: that is for retry policies and for the caller.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::proto;

/// Why a piece of durable work did not succeed.
///
/// `error_type` is for programs (compare it), `message` is for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// A short, stable name for the kind of failure, for example `"SourceChanged"`.
    pub error_type: String,
    /// What happened, to what, and what to do next.
    pub message: String,
    /// The stack where it happened, if who failed sent one (other SDKs do).
    pub stack_trace: Option<String>,
    /// Whether a retry policy must give up at once: trying again cannot help.
    pub non_retriable: bool,
    /// The failure that caused this one.
    pub inner: Option<Box<Failure>>,
    /// Facts that a program may want: paths, columns, counts. Numbers arrive as 64-bit floats.
    pub properties: BTreeMap<String, serde_json::Value>,
}

impl Failure {
    /// The type of failure of an orchestration whose code does not match its history.
    pub const NON_DETERMINISTIC: &'static str = "NonDeterministicError";
    /// The type of failure of work that panicked.
    pub const PANIC: &'static str = "Panic";
    /// The type of failure of a value that could not be written as JSON or read from it.
    pub const SERIALIZATION: &'static str = "SerializationError";
    /// The type of failure of an orchestration whose name the worker does not know.
    pub const ORCHESTRATOR_NOT_REGISTERED: &'static str = "OrchestratorNotRegistered";
    /// The type of failure of an activity whose name the worker does not know.
    pub const ACTIVITY_NOT_REGISTERED: &'static str = "ActivityNotRegistered";
    /// The type of failure of an operation on an entity whose name the worker does not know.
    pub const ENTITY_NOT_REGISTERED: &'static str = "EntityNotRegistered";
    /// The type of failure of an operation that an entity does not have.
    pub const OPERATION_NOT_SUPPORTED: &'static str = "OperationNotSupported";
    /// The type of failure of code that breaks the rules of a critical section.
    pub const CRITICAL_SECTION: &'static str = "CriticalSectionViolation";

    /// A failure that a retry may heal.
    pub fn new(error_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            error_type: error_type.into(),
            message: message.into(),
            stack_trace: None,
            non_retriable: false,
            inner: None,
            properties: BTreeMap::new(),
        }
    }

    /// A failure that no retry can heal: retry policies stop at it.
    pub fn non_retriable(error_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self { non_retriable: true, ..Self::new(error_type, message) }
    }

    /// The failure for any error: its type's short name, its text, and its sources as inner failures.
    pub fn from_error<E: Error + ?Sized>(error: &E) -> Self {
        let mut failure = Self::new(short_type_name::<E>(), error.to_string());
        failure.inner = error.source().map(|source| Box::new(Self::from_source(source)));
        failure
    }

    fn from_source(source: &(dyn Error + 'static)) -> Self {
        let mut failure = Self::new("Error", source.to_string());
        failure.inner = source.source().map(|next| Box::new(Self::from_source(next)));
        failure
    }

    /// The same failure with a fact added that a program can read.
    #[must_use]
    pub fn with_property(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// The same failure with its cause.
    #[must_use]
    pub fn with_inner(mut self, inner: Failure) -> Self {
        self.inner = Some(Box::new(inner));
        self
    }

    /// Whether this failure, or one that caused it, is of the given type.
    pub fn is(&self, error_type: &str) -> bool {
        self.error_type == error_type || self.inner.as_deref().is_some_and(|inner| inner.is(error_type))
    }

    /// The failure for a caught panic.
    pub(crate) fn from_panic(what: &str, payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a text".to_owned());
        Self::new(Self::PANIC, format!("{what} panicked: {text}"))
    }

    pub(crate) fn serialization(what: &str, error: &serde_json::Error) -> Self {
        Self::non_retriable(Self::SERIALIZATION, format!("{what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error_type, self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner.as_deref().map(|inner| inner as &(dyn Error + 'static))
    }
}

/// Turns the error of a [`Result`] into a [`Failure`], so that `?` works in durable code.
pub trait OrFailure<T> {
    /// The same result, its error as a failure that a retry may heal.
    fn or_failure(self) -> Result<T, Failure>;
}

impl<T, E: Error> OrFailure<T> for Result<T, E> {
    fn or_failure(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::from_error(&error))
    }
}

impl From<Failure> for proto::TaskFailureDetails {
    fn from(failure: Failure) -> Self {
        Self {
            error_type: failure.error_type,
            error_message: failure.message,
            stack_trace: failure.stack_trace,
            inner_failure: failure.inner.map(|inner| Box::new(Self::from(*inner))),
            is_non_retriable: failure.non_retriable,
            properties: failure.properties.into_iter().map(|(name, value)| (name, to_proto_value(value))).collect(),
        }
    }
}

impl From<proto::TaskFailureDetails> for Failure {
    fn from(details: proto::TaskFailureDetails) -> Self {
        Self {
            error_type: details.error_type,
            message: details.error_message,
            stack_trace: details.stack_trace,
            non_retriable: details.is_non_retriable,
            inner: details.inner_failure.map(|inner| Box::new(Self::from(*inner))),
            properties: details.properties.into_iter().map(|(name, value)| (name, from_proto_value(value))).collect(),
        }
    }
}

/// A hub may record a failure without details; the caller still gets one that says so.
impl From<Option<proto::TaskFailureDetails>> for Failure {
    fn from(details: Option<proto::TaskFailureDetails>) -> Self {
        details.map_or_else(|| Self::new("Unknown", "the task hub recorded a failure without details"), Self::from)
    }
}

fn to_proto_value(value: serde_json::Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(flag) => Kind::BoolValue(flag),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(items) => {
            Kind::ListValue(prost_types::ListValue { values: items.into_iter().map(to_proto_value).collect() })
        }
        serde_json::Value::Object(fields) => Kind::StructValue(prost_types::Struct {
            fields: fields.into_iter().map(|(name, value)| (name, to_proto_value(value))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

fn from_proto_value(value: prost_types::Value) -> serde_json::Value {
    use prost_types::value::Kind;
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(flag)) => flag.into(),
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(from_proto_value).collect(),
        Some(Kind::StructValue(fields)) => {
            fields.fields.into_iter().map(|(name, value)| (name, from_proto_value(value))).collect()
        }
    }
}

/// `io::Error` for `std::io::error::Error` would lose the point; the last segment without generics is what people say.
fn short_type_name<E: ?Sized>() -> &'static str {
    let full = std::any::type_name::<E>();
    let base = full.split('<').next().unwrap_or(full);
    base.rsplit("::").next().unwrap_or(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_arrives_whole_through_the_protocol() {
        let cause = Failure::non_retriable("Missing", "part-7.parquet is gone");
        let failure = Failure::new("ScanFailed", "chunk 3 could not be read")
            .with_inner(cause)
            .with_property("path", "part-7.parquet")
            .with_property("rows", serde_json::json!([1.5, null, true, {"a": "b"}]));
        let there = proto::TaskFailureDetails::from(failure.clone());
        assert_eq!(Failure::from(there), failure);
    }

    #[test]
    fn an_error_keeps_its_sources_as_inner_failures() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open the map")]
        struct MapError(#[source] std::io::Error);
        let failure = Failure::from_error(&MapError(std::io::Error::other("disk on fire")));
        assert_eq!(failure.error_type, "MapError");
        assert_eq!(failure.inner.as_ref().map(|inner| inner.message.as_str()), Some("disk on fire"));
        assert!(!failure.non_retriable);
    }
}
