//! Where a hub is and how it wants to know who asks: a URL, or a connection string of Azure Durable Task Scheduler.
//! This module must never resolve a name or open a connection, and never repeat what may be a secret in an error.

use std::fmt;
use std::str::FromStr;

/// Why a text is not the address of a hub.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{problem}; expected http://HOST:PORT, https://HOST:PORT or a connection string such as \
         Endpoint=https://HOST;TaskHub=NAME;Authentication=DefaultAzure"
)]
pub struct AddressError {
    problem: String,
}

fn wrong(problem: impl Into<String>) -> AddressError {
    AddressError { problem: problem.into() }
}

/// How a hub wants to know who asks, as the connection strings of Azure Durable Task Scheduler name it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authentication {
    /// Not at all, as the emulator does (`None`), or by a token that is given apart.
    None,
    /// `DefaultAzure`: the first of `Environment`, `WorkloadIdentity`, `ManagedIdentity` and `AzureCli` that works.
    DefaultAzure,
    /// `ManagedIdentity`: the identity of the machine or the app; `client_id` names one of several.
    ManagedIdentity {
        /// `ClientID`.
        client_id: Option<String>,
    },
    /// `WorkloadIdentity`: a token that the platform (Kubernetes) puts into a file is exchanged for one of Azure.
    /// What is not said here is taken from the `AZURE_…` variables.
    WorkloadIdentity {
        /// `ClientID`.
        client_id: Option<String>,
        /// `TenantId`.
        tenant_id: Option<String>,
        /// `TokenFilePath`.
        token_file: Option<String>,
    },
    /// `Environment`: tenant, client and secret from the `AZURE_…` variables.
    Environment,
    /// `AzureCli`: whoever is signed in with `az login`.
    AzureCli,
}

/// The address of a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    endpoint: String,
    host: String,
    task_hub: Option<String>,
    authentication: Authentication,
}

impl Address {
    /// The URL to connect to: scheme, host and port.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The host alone, without port; of an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The task hub by name, if the address has one.
    pub fn task_hub(&self) -> Option<&str> {
        self.task_hub.as_deref()
    }

    /// How the hub wants to know who asks.
    pub fn authentication(&self) -> &Authentication {
        &self.authentication
    }

    /// Whether what is sent is encrypted.
    pub fn is_tls(&self) -> bool {
        self.endpoint.starts_with("https://")
    }

    /// Whether what is sent stays on this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// Whether a host is this machine, by its name alone.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.task_hub {
            Some(hub) => write!(f, "{}, task hub {hub}", self.endpoint),
            None => f.write_str(&self.endpoint),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(wrong("the address is empty"));
        }
        // A URL has its scheme before anything else; a connection string begins with a key.
        if text.split_once("://").is_some_and(|(scheme, _)| !scheme.contains('=')) {
            let (endpoint, host) = endpoint(text)?;
            return Ok(Self { endpoint, host, task_hub: None, authentication: Authentication::None });
        }
        if text.contains('=') {
            return connection_string(text);
        }
        // A user's password or a token could stand in anything but a plain host and port.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        let known = (text.matches(':').count() == 1 || text.starts_with('[')) && text.chars().all(is_plain);
        let host = if known { text } else { "HOST:PORT" };
        Err(wrong(format!("the address has no scheme: write http://{host} for plain text, https://{host} for TLS")))
    }
}

/// Scheme, host and port, and the host alone.
fn endpoint(text: &str) -> Result<(String, String), AddressError> {
    let uri: hyper::Uri = text.parse().map_err(|_| wrong("the address is no valid URL"))?;
    let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
    if scheme != "http" && scheme != "https" {
        return Err(wrong(format!("the scheme \"{scheme}\" is not known here")));
    }
    let authority = uri.authority().ok_or_else(|| wrong("the address has no host"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("the address has a user name or password in it: give a token apart"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("the address has a path or a query, which gRPC has no use for"));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() {
        return Err(wrong("the address has no host"));
    }
    Ok((format!("{scheme}://{authority}"), host))
}

/// The values of a connection string; keys mean the same in upper and lower case, and the last one counts.
#[derive(Debug, Default)]
struct Values(Vec<(String, String)>);

impl Values {
    fn get(&self, key: &str) -> Option<String> {
        let found = self.0.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    }

    fn required(&self, key: &str) -> Result<String, AddressError> {
        self.get(key).ok_or_else(|| wrong(format!("the connection string has no {key}")))
    }
}

/// Splits `key=value;key="value"`; a quoted value may have `;` in it, and its quote doubled stands for itself.
fn values(text: &str) -> Result<Values, AddressError> {
    let mut found = Values::default();
    let mut rest = text.trim_start_matches([';', ' ']);
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| wrong("a part of the connection string has no \"=\""))?;
        let after = after.trim_start();
        let (value, left) = match after.chars().next() {
            Some(quote @ ('"' | '\'')) => quoted(&after[1..], quote)?,
            _ => match after.split_once(';') {
                Some((value, left)) => (value.trim().to_owned(), left),
                None => (after.trim().to_owned(), ""),
            },
        };
        found.0.push((key.trim().to_owned(), value));
        rest = left.trim_start_matches([';', ' ']);
    }
    Ok(found)
}

fn quoted(text: &str, quote: char) -> Result<(String, &str), AddressError> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let (front, back) =
            rest.split_once(quote).ok_or_else(|| wrong("a quoted value of the connection string does not end"))?;
        value.push_str(front);
        match back.strip_prefix(quote) {
            Some(back) => {
                value.push(quote);
                rest = back;
            }
            None => return Ok((value, back)),
        }
    }
}

fn connection_string(text: &str) -> Result<Address, AddressError> {
    let values = values(text)?;
    let target = values.required("Endpoint")?;
    // As the official SDKs have it: an endpoint without scheme is one with TLS.
    let target = if target.contains("://") { target } else { format!("https://{target}") };
    let (endpoint, host) = endpoint(&target)?;
    let task_hub = values.required("TaskHub")?;
    let kind = values.required("Authentication")?;
    let authentication = match kind.to_ascii_lowercase().as_str() {
        "none" => Authentication::None,
        "defaultazure" => Authentication::DefaultAzure,
        "managedidentity" => Authentication::ManagedIdentity { client_id: values.get("ClientID") },
        "workloadidentity" => Authentication::WorkloadIdentity {
            client_id: values.get("ClientID"),
            tenant_id: values.get("TenantId"),
            token_file: values.get("TokenFilePath"),
        },
        "environment" => Authentication::Environment,
        "azurecli" => Authentication::AzureCli,
        _ => {
            // What is no word may be a key that somebody put there.
            let is_word = kind.len() <= 24 && kind.chars().all(|c| c.is_ascii_alphabetic());
            let kind =
                if is_word { format!("the authentication \"{kind}\"") } else { "this authentication".to_owned() };
            return Err(wrong(format!(
                "{kind} is not known here (None, DefaultAzure, ManagedIdentity, \
                 WorkloadIdentity, Environment and AzureCli are)"
            )));
        }
    };
    Ok(Address { endpoint, host, task_hub: Some(task_hub), authentication })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Address {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn urls() {
        let plain = read("http://127.0.0.1:4001");
        assert_eq!((plain.endpoint(), plain.host(), plain.is_tls()), ("http://127.0.0.1:4001", "127.0.0.1", false));
        assert!(plain.is_loopback());
        let tls = read("https://hub.example.com/");
        assert_eq!((tls.endpoint(), tls.is_tls(), tls.is_loopback()), ("https://hub.example.com", true, false));
        assert_eq!(tls.authentication(), &Authentication::None);
        let six = read("http://[::1]:4001");
        assert_eq!((six.endpoint(), six.host(), six.is_loopback()), ("http://[::1]:4001", "::1", true));
    }

    #[test]
    fn connection_strings_as_the_azure_portal_and_the_emulator_give_them() {
        let azure = read(
            "Endpoint=https://mine.westeurope.durabletask.io;Authentication=ManagedIdentity;ClientID=4711;TaskHub=orders",
        );
        assert_eq!(azure.endpoint(), "https://mine.westeurope.durabletask.io");
        assert_eq!(azure.task_hub(), Some("orders"));
        assert_eq!(azure.authentication(), &Authentication::ManagedIdentity { client_id: Some("4711".to_owned()) });
        let emulator = read("Endpoint=http://localhost:8080;TaskHub=default;Authentication=None");
        assert_eq!((emulator.is_tls(), emulator.task_hub()), (false, Some("default")));
        let workload = read(
            "endpoint = mine.durabletask.io ; TASKHUB='my ; hub' ; authentication=workloadidentity; TenantId=t;\
             TokenFilePath=\"/var/a \"\"b\"\"\";",
        );
        assert_eq!(workload.endpoint(), "https://mine.durabletask.io");
        assert_eq!(workload.task_hub(), Some("my ; hub"));
        assert_eq!(
            workload.authentication(),
            &Authentication::WorkloadIdentity {
                client_id: None,
                tenant_id: Some("t".to_owned()),
                token_file: Some("/var/a \"b\"".to_owned())
            }
        );
    }

    #[test]
    fn every_mistake_is_named() {
        for (text, part) in [
            ("", "is empty"),
            ("localhost:4001", "http://localhost:4001 for plain text"),
            ("[::1]:4001", "http://[::1]:4001 for plain text"),
            ("user:canary@localhost:4001", "http://HOST:PORT for plain text"),
            ("canary@localhost", "http://HOST:PORT for plain text"),
            ("canary", "http://HOST:PORT for plain text"),
            ("ftp://host", "scheme \"ftp\""),
            ("http://user:canary@host", "user name or password"),
            ("http://host/path", "a path"),
            ("TaskHub=a;Authentication=None", "no Endpoint"),
            ("Endpoint=http://h;Authentication=None", "no TaskHub"),
            ("Endpoint=http://h;TaskHub=a", "no Authentication"),
            ("Endpoint=http://h;TaskHub=a;Authentication=Magic", "\"Magic\" is not known"),
            ("Endpoint=http://h;TaskHub=a;Authentication=Key canary", "this authentication is not known"),
            ("Endpoint=http://h;TaskHub='a;Authentication=None", "does not end"),
            ("Endpoint=http://h;TaskHub", "no \"=\""),
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
