//! One request, checked: the parts of its path, its query parameters as the values that its route declares, its body.
//! A parameter that cannot be read is an error here, and never one that is silently left out.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use prost_types::Timestamp;
use seriatim_durable::proto;

use crate::json::{self, JsonError};
use crate::problem::{Code, Problem};
use crate::route::{Kind, Param, Route, Takes};
use crate::{time, trace};

/// More rows than this are not on one page.
const PAGE_LIMIT: u32 = 1_000;

/// The value of a query parameter.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Flag(bool),
    Time(Timestamp),
    Count(u32),
    Seconds(Duration),
    Statuses(Vec<proto::OrchestrationStatus>),
    Text(String),
}

/// What came as the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Nothing.
    Nothing,
    /// JSON, as text.
    Json(String),
    /// Text of another kind.
    Text(String),
}

/// A request whose form is right.
pub(crate) struct Call {
    pub(crate) route: &'static Route,
    parts: Vec<(&'static str, String)>,
    values: Vec<(&'static str, Value)>,
    /// The query as it came, decoded.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
    /// The trace that the request belongs to.
    pub(crate) trace: Option<proto::TraceContext>,
}

/// The parameters of a query string, decoded.
pub(crate) fn query_pairs(query: Option<&str>) -> Vec<(String, String)> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect()
}

/// The value of a parameter, which may be written in upper or lower case; empty ones count as not given.
pub(crate) fn lookup<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty()).map(|(_, v)| v.as_str())
}

impl Call {
    /// Checks the query of a request for `route`.
    pub(crate) fn new(
        route: &'static Route,
        parts: Vec<(&'static str, String)>,
        query: Vec<(String, String)>,
        headers: HeaderMap,
    ) -> Result<Self, Problem> {
        let mut values = Vec::new();
        for param in route.query {
            if let Some(text) = lookup(&query, param.name) {
                values.push((param.name, parse(param, text)?));
            }
        }
        let trace = trace::read(&headers);
        Ok(Self { route, parts, values, query, headers, payload: Payload::Nothing, trace })
    }

    /// Takes the body.
    pub(crate) fn with_body(mut self, body: &[u8], depth: usize) -> Result<Self, Problem> {
        let is_json = self.says_json();
        self.payload = match self.route.takes {
            Takes::Nothing => Payload::Nothing,
            Takes::MaybeJson | Takes::JsonOrText if body.is_empty() => Payload::Nothing,
            Takes::Json if !is_json => {
                let detail = "only a body of the media type application/json is taken here";
                return Err(Problem::new(Code::WrongMediaType, detail));
            }
            Takes::JsonOrText if !is_json => match std::str::from_utf8(body) {
                Ok(text) => Payload::Text(text.to_owned()),
                Err(error) => {
                    let detail = format!("the body is not text in UTF-8: {error}");
                    return Err(Problem::new(Code::InvalidRequest, detail));
                }
            },
            Takes::MaybeJson | Takes::Json | Takes::JsonOrText => Payload::Json(read_json(body, depth)?),
        };
        Ok(self)
    }

    fn says_json(&self) -> bool {
        let media_type = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        media_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
    }

    /// What stands in the path in the place of `{name}`; empty if the route has no such part.
    pub(crate) fn part(&self, name: &str) -> &str {
        self.parts.iter().find(|(part, _)| *part == name).map_or("", |(_, value)| value)
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// A flag, or what it is where nothing is said.
    pub(crate) fn flag(&self, name: &str, default: bool) -> bool {
        match self.value(name) {
            Some(Value::Flag(flag)) => *flag,
            _ => default,
        }
    }

    /// A point in time.
    pub(crate) fn time(&self, name: &str) -> Option<Timestamp> {
        match self.value(name) {
            Some(Value::Time(time)) => Some(*time),
            _ => None,
        }
    }

    /// A number.
    pub(crate) fn count(&self, name: &str) -> Option<u32> {
        match self.value(name) {
            Some(Value::Count(count)) => Some(*count),
            _ => None,
        }
    }

    /// A time to wait.
    pub(crate) fn seconds(&self, name: &str) -> Option<Duration> {
        match self.value(name) {
            Some(Value::Seconds(seconds)) => Some(*seconds),
            _ => None,
        }
    }

    /// Statuses, as the protocol's numbers; none if none is asked for.
    pub(crate) fn statuses(&self, name: &str) -> Vec<i32> {
        match self.value(name) {
            Some(Value::Statuses(statuses)) => statuses.iter().map(|status| *status as i32).collect(),
            _ => Vec::new(),
        }
    }

    /// A text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
    }
}

/// Reads a body that has to be JSON.
fn read_json(body: &[u8], depth: usize) -> Result<String, Problem> {
    json::check(body, depth).map(str::to_owned).map_err(|error| match error {
        JsonError::Invalid(why) => Problem::new(Code::InvalidJson, format!("the body is not JSON: {why}")),
        JsonError::TooDeep => {
            let detail = format!("the body has more than {depth} levels of arrays and objects; flatten it");
            Problem::new(Code::JsonTooDeep, detail)
        }
    })
}

fn parse(param: &Param, text: &str) -> Result<Value, Problem> {
    let wrong = |expected: &str| {
        Problem::new(Code::InvalidQuery, format!("the parameter {} is \"{text}\": it has to be {expected}", param.name))
    };
    Ok(match param.kind {
        Kind::Flag if text.eq_ignore_ascii_case("true") => Value::Flag(true),
        Kind::Flag if text.eq_ignore_ascii_case("false") => Value::Flag(false),
        Kind::Flag => return Err(wrong("true or false")),
        Kind::Time => {
            let expected = "a time such as 2026-03-01T12:00:00Z (write a + as %2B)";
            Value::Time(time::parse(text).ok_or_else(|| wrong(expected))?)
        }
        Kind::Count => {
            let count = text.parse().ok().filter(|count| (1..=PAGE_LIMIT).contains(count));
            Value::Count(count.ok_or_else(|| wrong("a number from 1 to 1000"))?)
        }
        Kind::Seconds => {
            let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            Value::Seconds(seconds.ok_or_else(|| wrong("a number of seconds"))?)
        }
        Kind::Statuses => {
            let statuses = text.split(',').map(|word| status(word.trim())).collect::<Option<_>>();
            let expected =
                "a list of Running, Pending, Suspended, ContinuedAsNew, Completed, Failed, Terminated, Canceled";
            Value::Statuses(statuses.ok_or_else(|| wrong(expected))?)
        }
        Kind::Text => Value::Text(text.to_owned()),
    })
}

/// All statuses, as the contract names them.
const STATUSES: [(&str, proto::OrchestrationStatus); 8] = [
    ("Running", proto::OrchestrationStatus::Running),
    ("Pending", proto::OrchestrationStatus::Pending),
    ("Suspended", proto::OrchestrationStatus::Suspended),
    ("ContinuedAsNew", proto::OrchestrationStatus::ContinuedAsNew),
    ("Completed", proto::OrchestrationStatus::Completed),
    ("Failed", proto::OrchestrationStatus::Failed),
    ("Terminated", proto::OrchestrationStatus::Terminated),
    ("Canceled", proto::OrchestrationStatus::Canceled),
];

fn status(word: &str) -> Option<proto::OrchestrationStatus> {
    STATUSES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, status)| *status)
}

/// A status as the contract names it.
pub(crate) fn status_name(status: proto::OrchestrationStatus) -> &'static str {
    STATUSES.iter().find(|(_, known)| *known == status).map_or("Running", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(kind: Kind, text: &str) -> Result<Value, Problem> {
        parse(&Param { name: "p", kind, about: "" }, text)
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_not_ignored() {
        for (kind, wrong) in [
            (Kind::Flag, "yes"),
            (Kind::Time, "yesterday"),
            (Kind::Count, "0"),
            (Kind::Count, "1001"),
            (Kind::Count, "-1"),
            (Kind::Seconds, "-1"),
            (Kind::Seconds, "NaN"),
            (Kind::Seconds, "1e300"),
            (Kind::Statuses, "Running,Sleeping"),
        ] {
            assert_eq!(value(kind, wrong).map_err(|problem| problem.code()), Err(Code::InvalidQuery), "{wrong}");
        }
        assert_eq!(value(Kind::Flag, "True"), Ok(Value::Flag(true)));
        assert_eq!(value(Kind::Seconds, "1.5"), Ok(Value::Seconds(Duration::from_millis(1500))));
        let statuses = [proto::OrchestrationStatus::Running, proto::OrchestrationStatus::Failed];
        assert_eq!(value(Kind::Statuses, "running, Failed"), Ok(Value::Statuses(statuses.to_vec())));
    }

    #[test]
    fn every_status_has_its_name() {
        for (name, known) in STATUSES {
            assert_eq!((status(name), status_name(known)), (Some(known), name));
        }
    }
}
