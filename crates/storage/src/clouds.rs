//! Which service a place is at, and how this process shows who it is there, from the variables that each cloud's own
//! tools read. Must never show what it reads.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3CopyIfNotExists};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::list::PaginatedListStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use crate::environment::Environment;
use crate::error::{Advice, Error, Result};
use crate::place::Cloud;

/// The client of one container.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) pages: Arc<dyn PaginatedListStore>,
    /// Tells whether two places are the same container, however they are written.
    pub(crate) identity: String,
    pub(crate) advice: Advice,
}

/// The account and its key that every emulator of Azure's storage has; both are public.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
const EMULATOR_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

pub(crate) fn connect(cloud: &Cloud, container: &str, environment: &Environment) -> Result<Client> {
    match cloud {
        Cloud::Azure { account, endpoint } => azure(account.as_deref(), endpoint.as_deref(), container, environment),
        Cloud::Amazon => amazon(container, environment),
        Cloud::Google => google(container, environment),
    }
}

/// How often and how long a request is repeated.
fn retry(environment: &Environment) -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(5), ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries: 100, retry_timeout: environment.timeout() }
}

/// A machine has an identity to give, or not: that is known at once.
fn retry_identity() -> RetryConfig {
    RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(5), ..RetryConfig::default() }
}

fn options(environment: &Environment) -> ClientOptions {
    let timeout = environment.timeout();
    ClientOptions::new()
        .with_timeout(timeout.min(Duration::from_secs(30)))
        .with_connect_timeout(timeout.min(Duration::from_secs(5)))
        // Azurite closes a connection that was idle for five seconds; a request that comes just then is lost.
        .with_pool_idle_timeout(Duration::from_secs(4))
}

/// What is known of an Azure account, apart from what the client library reads itself.
#[derive(Default)]
struct Account {
    name: Option<String>,
    key: Option<String>,
    sas: Option<String>,
    endpoint: Option<String>,
}

impl Account {
    /// The account that the variables name.
    fn of(environment: &Environment) -> Result<Self> {
        let mut account = match environment.get("AZURE_STORAGE_CONNECTION_STRING") {
            Some(text) => Self::from_connection_string(text)?,
            None => Self::default(),
        };
        let text = |name: &str| environment.get(name).map(str::to_owned);
        account.name = account.name.or_else(|| text("AZURE_STORAGE_ACCOUNT"));
        account.name = account.name.or_else(|| text("AZURE_STORAGE_ACCOUNT_NAME"));
        if account.sas.is_none() {
            account.key = account.key.or_else(|| text("AZURE_STORAGE_KEY"));
        }
        let emulator = text("AZURITE_BLOB_STORAGE_URL");
        account.endpoint = account.endpoint.or_else(|| text("AZURE_STORAGE_ENDPOINT"));
        let is_on = |value: &str| value.eq_ignore_ascii_case("true") || value == "1";
        let emulated = emulator.is_some() || environment.get("AZURE_STORAGE_USE_EMULATOR").is_some_and(is_on);
        if account.endpoint.is_none() && emulated {
            account.endpoint = Some(emulator.unwrap_or_else(|| "http://127.0.0.1:10000".to_owned()));
        }
        account.complete()
    }

    fn from_connection_string(text: &str) -> Result<Self> {
        let mut account = Self::default();
        let (mut protocol, mut suffix, mut development) = ("https".to_owned(), "core.windows.net".to_owned(), false);
        for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| malformed("a part has no '='"))?;
            let value = value.trim().to_owned();
            match name.trim().to_ascii_lowercase().as_str() {
                "accountname" => account.name = Some(value),
                "accountkey" => account.key = Some(value),
                "sharedaccesssignature" => account.sas = Some(value),
                "blobendpoint" => account.endpoint = Some(value),
                "endpointsuffix" => suffix = value,
                "defaultendpointsprotocol" => protocol = value,
                "usedevelopmentstorage" => development = value.eq_ignore_ascii_case("true"),
                // Endpoints of tables, queues and files are no concern of blobs.
                _ => {}
            }
        }
        if development {
            account.name.get_or_insert_with(|| EMULATOR_ACCOUNT.to_owned());
            account.endpoint.get_or_insert_with(|| "http://127.0.0.1:10000".to_owned());
        }
        if account.endpoint.is_none() {
            let name = account.name.as_deref().ok_or_else(|| malformed("it names no account and no BlobEndpoint"))?;
            account.endpoint = Some(format!("{protocol}://{name}.blob.{suffix}"));
        }
        Ok(account)
    }

    /// The account's name in the endpoint, and the other way round.
    fn complete(mut self) -> Result<Self> {
        let Some(endpoint) = self.endpoint.take() else { return Ok(self) };
        let mut url = Url::parse(&endpoint).map_err(|e| {
            Error::invalid(format!("the endpoint of Azure's storage is no URL: {e}"))
                .help("http(s)://HOST:PORT/ACCOUNT for an emulator; see AZURE_STORAGE_ENDPOINT and BlobEndpoint")
        })?;
        let host = url.host_str().unwrap_or_default().to_owned();
        // An emulator has all accounts at one host, and the account in the path.
        if host == "localhost" || host.parse::<std::net::IpAddr>().is_ok() {
            let in_path = url.path().trim_matches('/').to_owned();
            if in_path.is_empty() {
                let name = self.name.get_or_insert_with(|| EMULATOR_ACCOUNT.to_owned());
                url.set_path(name);
            } else {
                self.name.get_or_insert(in_path);
            }
        } else if self.name.is_none() {
            self.name = host.split('.').next().map(str::to_owned);
        }
        self.endpoint = Some(url.as_str().trim_end_matches('/').to_owned());
        Ok(self)
    }
}

fn malformed(because: &str) -> Error {
    Error::invalid(format!("AZURE_STORAGE_CONNECTION_STRING is malformed: {because}"))
        .help("copy it from the account's page 'Access keys', or from `az storage account show-connection-string`")
}

fn azure(named: Option<&str>, at: Option<&str>, container: &str, environment: &Environment) -> Result<Client> {
    let mut account = Account::of(environment)?;
    if let Some(name) = named {
        if account.name.as_deref().is_some_and(|known| known != name) {
            // What is known is of another account.
            account = Account::default();
        }
        account.name = Some(name.to_owned());
    }
    if let Some(endpoint) = at
        && (account.endpoint.is_none() || endpoint.starts_with("http://"))
    {
        account.endpoint = Some(endpoint.to_owned());
    }
    let Some(name) = account.name else {
        return Err(Error::invalid(format!("az://{container}: the storage account is not known"))
            .help("set AZURE_STORAGE_ACCOUNT or AZURE_STORAGE_CONNECTION_STRING, or write abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH"));
    };
    let endpoint = account.endpoint.unwrap_or_else(|| format!("https://{name}.blob.core.windows.net"));
    let mut builder = MicrosoftAzureBuilder::new().with_client_options(options(environment));
    for (setting, value) in environment.settings("AZURE_") {
        let Ok(key) = setting.parse::<AzureConfigKey>() else { continue };
        // The place says which container, and the endpoint whether there is an emulator.
        if !matches!(key, AzureConfigKey::ContainerName | AzureConfigKey::UseEmulator | AzureConfigKey::Endpoint) {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(identity) = environment.get("IDENTITY_ENDPOINT") {
        builder = builder.with_msi_endpoint(identity);
    }
    if let Some(sas) = account.sas {
        builder = builder.with_config(AzureConfigKey::SasKey, sas);
    }
    let has = |builder: &MicrosoftAzureBuilder, key| builder.get_config_value(&key).is_some();
    if let Some(key) = account.key {
        builder = builder.with_access_key(key);
    } else if name == EMULATOR_ACCOUNT
        && !has(&builder, AzureConfigKey::AccessKey)
        && !has(&builder, AzureConfigKey::SasKey)
    {
        builder = builder.with_access_key(EMULATOR_KEY);
    }
    if endpoint.starts_with("http://") {
        builder = builder.with_allow_http(true);
    }
    builder = builder.with_account(&name).with_container_name(container).with_endpoint(endpoint.clone());
    let explicit = [
        AzureConfigKey::AccessKey,
        AzureConfigKey::SasKey,
        AzureConfigKey::Token,
        AzureConfigKey::ClientSecret,
        AzureConfigKey::FederatedTokenFile,
        AzureConfigKey::MsiEndpoint,
    ];
    let is_true = |key| builder.get_config_value(&key).is_some_and(|value| value == "true");
    let given = explicit.into_iter().any(|key| has(&builder, key))
        || is_true(AzureConfigKey::UseAzureCli)
        || is_true(AzureConfigKey::SkipSignature);
    if !given {
        let quick = builder.clone().with_retry(retry_identity()).build().map_err(|e| refused(container, &e))?;
        builder = builder.with_credentials(quick.credentials().clone());
    }
    let store = Arc::new(builder.with_retry(retry(environment)).build().map_err(|e| refused(container, &e))?);
    let advice = Advice {
        credentials: "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or \
                      AZURE_STORAGE_SAS_TOKEN, or AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or run \
                      where a managed identity may read and write there",
        container: "`az storage container create`",
    };
    Ok(Client { objects: store.clone(), pages: store, identity: format!("{endpoint}/{container}"), advice })
}

fn amazon(bucket: &str, environment: &Environment) -> Result<Client> {
    let mut builder = AmazonS3Builder::new().with_client_options(options(environment));
    for (setting, value) in environment.settings("AWS_") {
        if let Ok(key) = setting.parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let value = |builder: &AmazonS3Builder, key| builder.get_config_value(&key);
    let endpoint = value(&builder, AmazonS3ConfigKey::S3Endpoint).or(value(&builder, AmazonS3ConfigKey::Endpoint));
    if endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    if environment.get("AWS_COPY_IF_NOT_EXISTS").is_none() {
        // S3 itself has no other way to copy only where nothing is.
        builder = builder.with_copy_if_not_exists(S3CopyIfNotExists::Multipart);
    }
    builder = builder.with_bucket_name(bucket);
    let explicit = [
        AmazonS3ConfigKey::AccessKeyId,
        AmazonS3ConfigKey::SecretAccessKey,
        AmazonS3ConfigKey::WebIdentityTokenFile,
        AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
        AmazonS3ConfigKey::ContainerCredentialsFullUri,
    ];
    let given = explicit.into_iter().any(|key| value(&builder, key).is_some())
        || value(&builder, AmazonS3ConfigKey::SkipSignature).is_some_and(|value| value == "true");
    if !given {
        let quick = builder.clone().with_retry(retry_identity()).build().map_err(|e| refused(bucket, &e))?;
        builder = builder.with_credentials(quick.credentials().clone());
    }
    let store = Arc::new(builder.with_retry(retry(environment)).build().map_err(|e| refused(bucket, &e))?);
    let advice = Advice {
        credentials: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), \
                      AWS_WEB_IDENTITY_TOKEN_FILE, or run where an instance's role may read and write there; profiles \
                      are not read: `eval \"$(aws configure export-credentials --format env)\"`",
        container: "`aws s3 mb`",
    };
    let identity = format!("{}/{bucket}", endpoint.unwrap_or_else(|| "s3:".to_owned()));
    Ok(Client { objects: store.clone(), pages: store, identity, advice })
}

fn google(bucket: &str, environment: &Environment) -> Result<Client> {
    let mut builder = GoogleCloudStorageBuilder::new().with_client_options(options(environment));
    if let Some(path) = environment.get("SERVICE_ACCOUNT") {
        builder = builder.with_service_account_path(path);
    }
    for (setting, value) in environment.settings("GOOGLE_") {
        if let Ok(key) = setting.parse::<GoogleConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let value = |builder: &GoogleCloudStorageBuilder, key| builder.get_config_value(&key);
    let base = value(&builder, GoogleConfigKey::BaseUrl);
    if base.as_deref().is_some_and(|base| base.starts_with("http://")) {
        builder = builder.with_config(GoogleConfigKey::Client(object_store::ClientConfigKey::AllowHttp), "true");
    }
    builder = builder.with_bucket_name(bucket).with_retry(retry(environment));
    let store = Arc::new(builder.build().map_err(|e| refused(bucket, &e))?);
    let advice = Advice {
        credentials: "set GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT to a key file, log in with \
                      `gcloud auth application-default login`, or run where a service account may read and write there",
        container: "`gcloud storage buckets create`",
    };
    let identity = format!("{}/{bucket}", base.unwrap_or_else(|| "gs:".to_owned()));
    Ok(Client { objects: store.clone(), pages: store, identity, advice })
}

/// The client library does not take the settings. Its text may hold a value, so only the first words are shown.
fn refused(container: &str, error: &object_store::Error) -> Error {
    let text = error.to_string();
    let what = text.rsplit("error: ").next().unwrap_or_default().split([':', '"', '\'']).next().unwrap_or_default();
    Error::invalid(format!("the settings for the container {container} make no sense: {what}"))
        .help("see the variables of this cloud: AZURE_…, AWS_… or GOOGLE_…")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The account's name and endpoint.
    fn account(variables: &[(&str, &str)]) -> (String, String) {
        let account = Account::of(&Environment::of(variables.iter().copied())).unwrap();
        (account.name.unwrap_or_default(), account.endpoint.unwrap_or_default())
    }

    #[test]
    fn an_account_is_found_however_it_is_given() {
        let connection = "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=b==;EndpointSuffix=core.windows.net";
        let found = Account::of(&Environment::of([("AZURE_STORAGE_CONNECTION_STRING", connection)])).unwrap();
        assert_eq!(found.key.as_deref(), Some("b=="));
        assert_eq!(found.endpoint.as_deref(), Some("https://a.blob.core.windows.net"));
        let connection = "BlobEndpoint=https://a.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=x%3D";
        let found = Account::of(&Environment::of([("AZURE_STORAGE_CONNECTION_STRING", connection)])).unwrap();
        assert_eq!((found.name.as_deref(), found.sas.as_deref()), (Some("a"), Some("sv=1&sig=x%3D")));
        let emulator = "http://127.0.0.1:10000/devstoreaccount1";
        let development = [("AZURE_STORAGE_CONNECTION_STRING", "UseDevelopmentStorage=true")];
        assert_eq!(account(&development), ("devstoreaccount1".to_owned(), emulator.to_owned()));
        assert_eq!(
            account(&[("AZURE_STORAGE_USE_EMULATOR", "true")]),
            ("devstoreaccount1".to_owned(), emulator.to_owned())
        );
        let own_port = "http://127.0.0.1:7/devstoreaccount1";
        assert_eq!(account(&[("AZURITE_BLOB_STORAGE_URL", "http://127.0.0.1:7")]).1, own_port.to_owned());
        assert_eq!(
            account(&[("AZURE_STORAGE_ENDPOINT", own_port)]),
            ("devstoreaccount1".to_owned(), own_port.to_owned())
        );
        assert_eq!(account(&[("AZURE_STORAGE_ACCOUNT", "a")]), ("a".to_owned(), String::new()));
    }

    #[test]
    fn settings_that_make_no_sense_are_told_without_their_values() {
        for (name, value) in [
            ("AZURE_STORAGE_CONNECTION_STRING", "canary"),
            ("AZURE_STORAGE_ENDPOINT", "canary"),
            ("AZURE_STORAGE_KEY", "canary!"),
            ("AZURE_STORAGE_SAS_TOKEN", "canary"),
        ] {
            let environment = Environment::of([(name, value), ("AZURE_STORAGE_ACCOUNT", "a")]);
            let error = connect(&Cloud::Azure { account: None, endpoint: None }, "c", &environment);
            let error = error.err().unwrap();
            assert!(!format!("{error:?}").contains("canary"), "{name}: {error:?}");
        }
        let none = connect(&Cloud::Azure { account: None, endpoint: None }, "c", &Environment::of([("A", "")]));
        assert!(none.err().unwrap().message.contains("account"));
    }
}
