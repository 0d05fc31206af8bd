//! The ways in which a program proves to Azure who it is, by plain HTTP requests. Settings come from the connection
//! string and from the `AZURE_…` variables that every Azure SDK reads. This module must never send a secret in plain
//! text to another machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use hyper::Uri;

use super::http::{Ask, Http, form, seconds};
use super::sources::{Variables, read_secret};
use super::{AccessToken, Credential, CredentialError};
use crate::address::is_loopback;
use crate::secret::Secret;

const AUTHORITY: &str = "https://login.microsoftonline.com";
const AUTHORITY_NAME: &str = "Microsoft Entra ID";
const MACHINE_IDENTITY: &str = "http://169.254.169.254";
const PATIENCE: Duration = Duration::from_secs(30);
/// The machine's identity is asked at an address that only exists on Azure: elsewhere nobody answers.
const MACHINE_PATIENCE: Duration = Duration::from_secs(5);

fn uri(text: &str, purpose: &str) -> Result<Uri, CredentialError> {
    text.parse().map_err(|_| CredentialError::NotConfigured(format!("{purpose} is no valid URL")))
}

/// Where a tenant's tokens come from.
fn token_uri(variables: &Variables, tenant: &str) -> Result<Uri, CredentialError> {
    let authority = variables.get("AZURE_AUTHORITY_HOST").unwrap_or_else(|| AUTHORITY.to_owned());
    if !tenant.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.') {
        return Err(CredentialError::NotConfigured("the tenant id has characters that none has".to_owned()));
    }
    let uri = uri(&format!("{}/{tenant}/oauth2/v2.0/token", authority.trim_end_matches('/')), "AZURE_AUTHORITY_HOST")?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    if uri.scheme_str() != Some("https") && !is_loopback(host) {
        return Err(CredentialError::NotConfigured(
            "AZURE_AUTHORITY_HOST is no https:// address: a secret is not sent to it".to_owned(),
        ));
    }
    Ok(uri)
}

fn scope(resource: &str) -> String {
    format!("{}/.default", resource.trim_end_matches('/'))
}

/// A service principal with its secret: `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET`.
#[derive(Debug)]
pub struct ClientSecret {
    uri: Uri,
    client_id: String,
    secret: Secret,
    http: Http,
}

impl ClientSecret {
    /// As the variables say.
    pub fn from_variables(variables: &Variables) -> Result<Self, CredentialError> {
        let purpose = "authentication by environment";
        Ok(Self {
            uri: token_uri(variables, &variables.required("AZURE_TENANT_ID", purpose)?)?,
            client_id: variables.required("AZURE_CLIENT_ID", purpose)?,
            secret: Secret::new(variables.required("AZURE_CLIENT_SECRET", purpose)?),
            http: Http::new(),
        })
    }
}

#[async_trait]
impl Credential for ClientSecret {
    async fn token(&self, resource: &str) -> Result<AccessToken, CredentialError> {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_secret", self.secret.expose()),
            ("scope", &scope(resource)),
        ];
        let form = Some(Secret::new(form(&fields)));
        let ask = Ask { whom: AUTHORITY_NAME, uri: self.uri.clone(), headers: vec![], form, patience: PATIENCE };
        self.http.ask(ask).await
    }
}

/// A token that the platform renews in a file (Kubernetes: `AZURE_FEDERATED_TOKEN_FILE`), exchanged for one of Azure.
#[derive(Debug)]
pub struct WorkloadIdentity {
    uri: Uri,
    client_id: String,
    file: PathBuf,
    http: Http,
}

impl WorkloadIdentity {
    /// As the arguments say, and where they say nothing, the variables.
    pub fn from_variables(
        variables: &Variables,
        client_id: Option<&str>,
        tenant_id: Option<&str>,
        token_file: Option<&str>,
    ) -> Result<Self, CredentialError> {
        let purpose = "workload identity";
        let or =
            |given: Option<&str>, name| given.map_or_else(|| variables.required(name, purpose), |v| Ok(v.to_owned()));
        Ok(Self {
            uri: token_uri(variables, &or(tenant_id, "AZURE_TENANT_ID")?)?,
            client_id: or(client_id, "AZURE_CLIENT_ID")?,
            file: or(token_file, "AZURE_FEDERATED_TOKEN_FILE")?.into(),
            http: Http::new(),
        })
    }
}

#[async_trait]
impl Credential for WorkloadIdentity {
    async fn token(&self, resource: &str) -> Result<AccessToken, CredentialError> {
        let assertion = read_secret(&self.file).await?;
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion.expose()),
            ("scope", &scope(resource)),
        ];
        let form = Some(Secret::new(form(&fields)));
        let ask = Ask { whom: AUTHORITY_NAME, uri: self.uri.clone(), headers: vec![], form, patience: PATIENCE };
        self.http.ask(ask).await
    }
}

/// The identity of the machine, or of the app where App Service, Functions or Container Apps run it.
#[derive(Debug)]
pub struct ManagedIdentity {
    base: String,
    /// The header that an app's endpoint wants; a machine's has none.
    app: Option<Secret>,
    client_id: Option<String>,
    http: Http,
}

impl ManagedIdentity {
    /// The endpoint is that of the app (`IDENTITY_ENDPOINT`, `IDENTITY_HEADER`) if there is one, else the machine's.
    pub fn from_variables(variables: &Variables, client_id: Option<String>) -> Result<Self, CredentialError> {
        let machine = variables.get("AZURE_POD_IDENTITY_AUTHORITY_HOST").unwrap_or_else(|| MACHINE_IDENTITY.to_owned());
        let (base, app) = match (variables.get("IDENTITY_ENDPOINT"), variables.get("IDENTITY_HEADER")) {
            (Some(endpoint), Some(header)) => (endpoint, Some(Secret::new(header))),
            _ => (format!("{}/metadata/identity/oauth2/token", machine.trim_end_matches('/')), None),
        };
        uri(&base, "the managed identity endpoint")?;
        Ok(Self { base, app, client_id, http: Http::new() })
    }
}

#[async_trait]
impl Credential for ManagedIdentity {
    async fn token(&self, resource: &str) -> Result<AccessToken, CredentialError> {
        let version = if self.app.is_some() { "2019-08-01" } else { "2018-02-01" };
        let mut fields = vec![("api-version", version), ("resource", resource)];
        fields.extend(self.client_id.as_deref().map(|id| ("client_id", id)));
        let separator = if self.base.contains('?') { '&' } else { '?' };
        let whom = "the managed identity endpoint";
        let (headers, patience) = match &self.app {
            Some(header) => (vec![("x-identity-header", header.clone())], PATIENCE),
            None => (vec![("metadata", Secret::new("true"))], MACHINE_PATIENCE),
        };
        let uri = uri(&format!("{}{separator}{}", self.base, form(&fields)), whom)?;
        self.http.ask(Ask { whom, uri, headers, form: None, patience }).await
    }
}

/// Whoever is signed in with `az login` on this machine.
#[derive(Debug, Clone)]
pub struct AzureCli {
    program: PathBuf,
}

impl Default for AzureCli {
    fn default() -> Self {
        Self { program: "az".into() }
    }
}

impl AzureCli {
    /// The same with this program in the place of `az`.
    pub fn with_program(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }
}

#[async_trait]
impl Credential for AzureCli {
    async fn token(&self, resource: &str) -> Result<AccessToken, CredentialError> {
        let mut command = std::process::Command::new(&self.program);
        command.args(["account", "get-access-token", "--output", "json", "--resource", resource]);
        command.stdin(std::process::Stdio::null());
        let program = self.program.display().to_string();
        let cannot = |error: &dyn std::fmt::Display| {
            CredentialError::NotConfigured(format!("the Azure CLI ({program}) cannot be run: {error}"))
        };
        let output = match tokio::task::spawn_blocking(move || command.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(cannot(&error)),
            Err(error) => return Err(cannot(&error)),
        };
        if !output.status.success() {
            return Err(CredentialError::Refused(
                "the Azure CLI gave no token: run `az login`, then try again".to_owned(),
            ));
        }
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        match answer["accessToken"].as_str().map(Secret::new) {
            Some(secret) if !secret.is_empty() => {
                let expires = seconds(&answer["expires_on"]).map(|end| UNIX_EPOCH + Duration::from_secs(end));
                Ok(AccessToken { secret, expires })
            }
            _ => Err(CredentialError::Refused("the Azure CLI answered without a token".to_owned())),
        }
    }
}

/// Several ways, of which the first that works is used from then on.
#[derive(Debug)]
pub struct FirstThatWorks {
    ways: Vec<(&'static str, Arc<dyn Credential>)>,
    /// The way that worked, plus one; 0: none has yet.
    found: AtomicUsize,
}

impl FirstThatWorks {
    /// These ways, in this order.
    pub fn new(ways: Vec<(&'static str, Arc<dyn Credential>)>) -> Self {
        Self { ways, found: AtomicUsize::new(0) }
    }

    /// Environment, workload identity, managed identity, Azure CLI: those that are configured here.
    pub fn default_azure(variables: &Variables) -> Self {
        let mut ways: Vec<(&'static str, Arc<dyn Credential>)> = Vec::new();
        if let Ok(way) = ClientSecret::from_variables(variables) {
            ways.push(("environment", Arc::new(way)));
        }
        if let Ok(way) = WorkloadIdentity::from_variables(variables, None, None, None) {
            ways.push(("workload identity", Arc::new(way)));
        }
        if let Ok(way) = ManagedIdentity::from_variables(variables, variables.get("AZURE_CLIENT_ID")) {
            ways.push(("managed identity", Arc::new(way)));
        }
        ways.push(("Azure CLI", Arc::new(AzureCli::default())));
        Self::new(ways)
    }
}

#[async_trait]
impl Credential for FirstThatWorks {
    async fn token(&self, resource: &str) -> Result<AccessToken, CredentialError> {
        let found = self.found.load(Ordering::Relaxed);
        if let Some((_, way)) = found.checked_sub(1).and_then(|index| self.ways.get(index)) {
            return way.token(resource).await;
        }
        let mut reasons = Vec::new();
        for (index, (name, way)) in self.ways.iter().enumerate() {
            match way.token(resource).await {
                Ok(token) => {
                    tracing::debug!(way = name, "the hub's tokens come from here");
                    self.found.store(index + 1, Ordering::Relaxed);
                    return Ok(token);
                }
                Err(error) => reasons.push(format!("{name}: {error}")),
            }
        }
        Err(CredentialError::Refused(format!(
            "no way of getting a token for Azure works here ({})",
            reasons.join("; ")
        )))
    }
}
