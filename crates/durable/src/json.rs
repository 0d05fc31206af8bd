//! The one place where values become the JSON text of the protocol and back. An absent text means `null`. This module
//! must never know what a value is for: who calls it says so, for the error's sake.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// The JSON text of a value.
pub(crate) fn write(value: &(impl Serialize + ?Sized), what: impl FnOnce() -> String) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::serialization(&format!("{} cannot be written as JSON", what()), &error))
}

/// The value of a JSON text; an absent or empty text reads as `null`.
pub(crate) fn read<T: DeserializeOwned>(text: Option<&str>, what: impl FnOnce() -> String) -> Result<T, Failure> {
    let text = text.filter(|text| !text.is_empty()).unwrap_or("null");
    serde_json::from_str(text).map_err(|error| Failure::serialization(&what(), &error))
}
