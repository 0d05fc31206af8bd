//! Who asks: tokens for a hub that wants to know. A [`Credential`] gets a token from somewhere, a [`TokenCache`] keeps it
//! until shortly before it ends. This module must never log a token, nor put one into an error.

mod azure;
mod http;
mod sources;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

pub use azure::{AzureCli, ClientSecret, FirstThatWorks, ManagedIdentity, WorkloadIdentity};
pub use sources::{StaticToken, TokenFile, Variables};

use crate::address::{Address, Authentication};
use crate::secret::Secret;

/// What a token for Azure Durable Task Scheduler is asked for.
const AZURE: &str = "https://durabletask.io";
/// The same in the clouds of the United States' government.
const AZURE_GOVERNMENT: &str = "https://durabletask.azure.us";

/// A token that is this close to its end is replaced: a call that is under way must not outlive it.
const RENEW_BEFORE: Duration = Duration::from_mins(5);
/// After an attempt to renew a token that still holds has failed, how long that token serves before the next attempt.
const RENEW_AGAIN: Duration = Duration::from_secs(30);

/// Why there is no token. Never has one in it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// Something that this way of asking needs is not there: set it, or choose another way.
    #[error("{0}")]
    NotConfigured(String),
    /// The one who gives tokens was asked and refused: check the identity and its rights.
    #[error("{0}")]
    Refused(String),
    /// The one who gives tokens is out of reach: try again later.
    #[error("{0}")]
    Unreachable(String),
}

/// A token, and when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// The token.
    pub secret: Secret,
    /// When it ends; `None`: nobody knows, so it is asked for anew whenever a hub refuses it.
    pub expires: Option<SystemTime>,
}

/// A source of tokens.
#[async_trait]
pub trait Credential: fmt::Debug + Send + Sync {
    /// Gets a token for `resource`, for example `https://durabletask.io`. Asked again only when the last one is about
    /// to end or was refused, so there is no need to keep anything.
    async fn token(&self, resource: &str) -> Result<AccessToken, CredentialError>;
}

/// What tokens for this address are asked for, unless the caller says something else.
pub(crate) fn default_resource(address: &Address, variables: &Variables) -> &'static str {
    let region = variables.get("REGION_NAME").unwrap_or_default().to_ascii_lowercase();
    let government = region.starts_with("usgov") || region.starts_with("usdod");
    if government || address.host().to_ascii_lowercase().ends_with(".azure.us") { AZURE_GOVERNMENT } else { AZURE }
}

/// The credential that an address asks for; `None` if it asks for none.
pub fn credential_for(
    address: &Address,
    variables: &Variables,
) -> Result<Option<Arc<dyn Credential>>, CredentialError> {
    Ok(Some(match address.authentication() {
        Authentication::None => return Ok(None),
        Authentication::Environment => Arc::new(ClientSecret::from_variables(variables)?),
        Authentication::ManagedIdentity { client_id } => {
            Arc::new(ManagedIdentity::from_variables(variables, client_id.clone())?)
        }
        Authentication::WorkloadIdentity { client_id, tenant_id, token_file } => {
            Arc::new(WorkloadIdentity::from_variables(
                variables,
                client_id.as_deref(),
                tenant_id.as_deref(),
                token_file.as_deref(),
            )?)
        }
        Authentication::AzureCli => Arc::new(AzureCli::default()),
        Authentication::DefaultAzure => Arc::new(FirstThatWorks::default_azure(variables)),
    }))
}

/// Keeps the token of a credential until shortly before it ends. However many calls want one, one of them asks.
#[derive(Debug)]
pub struct TokenCache {
    credential: Arc<dyn Credential>,
    resource: String,
    kept: Mutex<Option<Kept>>,
    /// Held while somebody asks for a token; the others wait and find it.
    asking: tokio::sync::Mutex<()>,
    clock: fn() -> SystemTime,
}

#[derive(Debug, Clone)]
struct Kept {
    token: AccessToken,
    renew_at: Option<SystemTime>,
}

impl TokenCache {
    /// Keeps the tokens of `credential` for `resource`.
    pub fn new(credential: Arc<dyn Credential>, resource: impl Into<String>) -> Self {
        Self {
            credential,
            resource: resource.into(),
            kept: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            clock: SystemTime::now,
        }
    }

    /// A token that holds for the next minutes.
    pub async fn token(&self) -> Result<Secret, CredentialError> {
        if let Some(secret) = self.fresh() {
            return Ok(secret);
        }
        let _one = self.asking.lock().await;
        if let Some(secret) = self.fresh() {
            return Ok(secret);
        }
        match self.credential.token(&self.resource).await {
            Ok(token) => {
                let secret = token.secret.clone();
                let renew_at = token.expires.map(|end| end.checked_sub(RENEW_BEFORE).unwrap_or(end));
                *self.lock() = Some(Kept { token, renew_at });
                Ok(secret)
            }
            Err(error) => self.held_over(&error).ok_or(error),
        }
    }

    /// A hub refused this token: the next call asks for a new one. A token that was replaced meanwhile stays.
    pub fn refused(&self, secret: &Secret) {
        let mut kept = self.lock();
        if kept.as_ref().is_some_and(|kept| kept.token.secret == *secret) {
            *kept = None;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> Option<Secret> {
        let now = (self.clock)();
        let kept = self.lock();
        kept.as_ref().filter(|kept| kept.renew_at.is_none_or(|at| now < at)).map(|kept| kept.token.secret.clone())
    }

    /// The old token, as long as it holds, where a new one could not be had.
    fn held_over(&self, error: &CredentialError) -> Option<Secret> {
        let now = (self.clock)();
        let mut kept = self.lock();
        let old = kept.as_mut().filter(|kept| kept.token.expires.is_some_and(|end| now < end))?;
        tracing::warn!(%error, "the hub's token could not be renewed; the one that there is serves for now");
        old.renew_at = Some(now + RENEW_AGAIN);
        Some(old.token.secret.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use super::*;

    /// Seconds since the epoch, for the clock of these tests. Each test has tokens of its own time.
    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[derive(Debug, Default)]
    struct Counted {
        asked: AtomicU64,
        lifetime: Option<u64>,
        fails: std::sync::atomic::AtomicBool,
    }

    #[async_trait]
    impl Credential for Counted {
        async fn token(&self, resource: &str) -> Result<AccessToken, CredentialError> {
            tokio::task::yield_now().await;
            if self.fails.load(SeqCst) {
                return Err(CredentialError::Unreachable("nobody there".to_owned()));
            }
            let number = self.asked.fetch_add(1, SeqCst) + 1;
            Ok(AccessToken { secret: Secret::new(format!("{resource} {number}")), expires: self.lifetime.map(at) })
        }
    }

    fn cache(lifetime: Option<u64>, clock: fn() -> SystemTime) -> (Arc<Counted>, TokenCache) {
        let counted = Arc::new(Counted { lifetime, ..Counted::default() });
        let cache = TokenCache { clock, ..TokenCache::new(Arc::clone(&counted) as Arc<dyn Credential>, "r") };
        (counted, cache)
    }

    #[tokio::test]
    async fn many_calls_at_once_ask_once() {
        let (counted, cache) = cache(Some(10_000), || at(0));
        let tokens = futures::future::join_all((0..20).map(|_| cache.token())).await;
        assert!(tokens.iter().all(|token| token.as_ref().is_ok_and(|secret| secret.expose() == "r 1")));
        assert_eq!(counted.asked.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn a_token_is_replaced_shortly_before_it_ends_and_when_it_is_refused() {
        static NOW: AtomicU64 = AtomicU64::new(0);
        let (counted, cache) = cache(Some(1_000), || at(NOW.load(SeqCst)));
        assert_eq!(cache.token().await.unwrap().expose(), "r 1");
        NOW.store(699, SeqCst);
        assert_eq!(cache.token().await.unwrap().expose(), "r 1");
        NOW.store(700, SeqCst);
        assert_eq!(cache.token().await.unwrap().expose(), "r 2");
        NOW.store(0, SeqCst);
        cache.refused(&Secret::new("r 1")); // a late word about an old token
        assert_eq!(cache.token().await.unwrap().expose(), "r 2");
        cache.refused(&Secret::new("r 2"));
        assert_eq!(cache.token().await.unwrap().expose(), "r 3");
        assert_eq!(counted.asked.load(SeqCst), 3);
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_renewed_serves_until_it_ends() {
        static NOW: AtomicU64 = AtomicU64::new(0);
        let (counted, cache) = cache(Some(1_000), || at(NOW.load(SeqCst)));
        cache.token().await.unwrap();
        counted.fails.store(true, SeqCst);
        NOW.store(999, SeqCst);
        assert_eq!(cache.token().await.unwrap().expose(), "r 1");
        NOW.store(1_100, SeqCst);
        assert!(matches!(cache.token().await, Err(CredentialError::Unreachable(_))));
    }

    #[test]
    fn tokens_are_asked_for_the_cloud_that_the_hub_is_in() {
        let variables = |region: &'static str| Variables::of([("REGION_NAME", region)]);
        let public: Address = "https://a.westeurope.durabletask.io".parse().unwrap();
        let government: Address = "https://a.usgovvirginia.durabletask.azure.us".parse().unwrap();
        assert_eq!(default_resource(&public, &variables("westeurope")), AZURE);
        assert_eq!(default_resource(&public, &variables("USGov Virginia")), AZURE_GOVERNMENT);
        assert_eq!(default_resource(&government, &variables("")), AZURE_GOVERNMENT);
    }
}
