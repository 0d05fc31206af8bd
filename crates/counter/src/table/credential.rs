//! Who a client of Azure Table Storage is: an account's key, or a shared access signature, as Azure's own tools read them
//! from the environment; and the signature under a request. This module must never show a key or a signature.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;

use crate::error::{CounterError, CounterErrorKind, Result};
use crate::secret::Secret;

/// The account of Azure's emulators and its key, which is the same everywhere and published in their documentation.
const EMULATOR: &str = "devstoreaccount1";
const EMULATOR_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// How a client shows who it is.
#[derive(Debug, Clone)]
pub enum Credential {
    /// It signs each request with the account's key.
    Key(KeyCredential),
    /// It adds this query to each address.
    Signature(Secret),
}

/// An account's key, decoded.
#[derive(Clone)]
pub struct KeyCredential {
    account: String,
    key: hmac::Key,
}

impl std::fmt::Debug for KeyCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyCredential").field("account", &self.account).finish_non_exhaustive()
    }
}

/// What the environment says, by name.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Credential {
    /// The credential for `account`: a connection string, a shared access signature, or the account's key, as the
    /// environment has them. A connection string of another account does not count.
    pub fn from_env(account: &str, env: Environment<'_>) -> Result<Self> {
        let get = |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        if let Some(text) = get("AZURE_STORAGE_CONNECTION_STRING")
            && let Some(credential) = from_connection_string(account, &text)?
        {
            return Ok(credential);
        }
        if let Some(token) = get("AZURE_STORAGE_SAS_TOKEN") {
            return Ok(Self::signature(&token));
        }
        let named = ["AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"].into_iter().find_map(get);
        let key =
            ["AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY"].into_iter().find_map(get);
        if let Some(key) = key.filter(|_| named.is_none_or(|named| named == account)) {
            return Self::key(account, &key);
        }
        if account == EMULATOR {
            return Self::key(account, EMULATOR_KEY);
        }
        Err(CounterError::new(
            CounterErrorKind::Refused,
            format!("there are no credentials for the storage account '{account}' in the environment"),
        )
        .help(
            "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY, or \
             AZURE_STORAGE_SAS_TOKEN",
        ))
    }

    /// A shared access signature, with or without the `?` before it.
    pub fn signature(token: &str) -> Self {
        Self::Signature(Secret::new(token.trim_start_matches('?')))
    }

    /// An account's key, in base64.
    pub fn key(account: &str, key: &str) -> Result<Self> {
        let bytes = BASE64_STANDARD.decode(key.trim()).map_err(|_| {
            CounterError::new(
                CounterErrorKind::Refused,
                format!("the key of the storage account '{account}' is not in base64"),
            )
            .help("copy it again from the account's access keys")
        })?;
        Ok(Self::Key(KeyCredential { account: account.to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, &bytes) }))
    }
}

fn from_connection_string(account: &str, text: &str) -> Result<Option<Credential>> {
    let get = |wanted: &str| {
        let pairs = text.split(';').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    };
    if get("UseDevelopmentStorage").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return if account == EMULATOR { Credential::key(account, EMULATOR_KEY).map(Some) } else { Ok(None) };
    }
    if get("AccountName").is_some_and(|name| name != account) {
        return Ok(None);
    }
    if let Some(key) = get("AccountKey") {
        return Credential::key(account, key).map(Some);
    }
    Ok(get("SharedAccessSignature").map(Credential::signature))
}

impl KeyCredential {
    /// The `authorization` header of a request to this path (as it is sent) at this time.
    pub(super) fn authorization(&self, method: &str, content_type: &str, date: &str, path: &str) -> Secret {
        let text = format!("{method}\n\n{content_type}\n{date}\n/{}{path}", self.account);
        let signature = hmac::sign(&self.key, text.as_bytes());
        Secret::new(format!("SharedKey {}:{}", self.account, BASE64_STANDARD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(account: &str, env: &[(&str, &str)]) -> Result<Credential> {
        Credential::from_env(account, &|name| {
            env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_is_read_as_azures_tools_read_it() {
        let key = BASE64_STANDARD.encode("canary-key");
        let connection = format!("DefaultEndpointsProtocol=https;AccountName=a;AccountKey={key};EndpointSuffix=x");
        let kind = |account: &str, env: &[(&str, &str)]| match of(account, env) {
            Ok(Credential::Key(key)) => format!("key of {}", key.account),
            Ok(Credential::Signature(text)) => text.expose().to_owned(),
            Err(error) => error.message,
        };
        assert_eq!(kind("a", &[("AZURE_STORAGE_CONNECTION_STRING", &connection)]), "key of a");
        assert_eq!(kind("a", &[("AZURE_STORAGE_ACCOUNT", "a"), ("AZURE_STORAGE_KEY", &key)]), "key of a");
        assert_eq!(kind("a", &[("AZURE_STORAGE_SAS_TOKEN", "?sv=1&sig=s")]), "sv=1&sig=s");
        let sas = "TableEndpoint=https://a.table.core.windows.net;SharedAccessSignature=sv=1&sig=x=";
        assert_eq!(kind("a", &[("AZURE_STORAGE_CONNECTION_STRING", sas)]), "sv=1&sig=x=");
        assert_eq!(kind("devstoreaccount1", &[]), "key of devstoreaccount1");
        let none = "there are no credentials for the storage account 'b' in the environment";
        assert_eq!(kind("b", &[("AZURE_STORAGE_CONNECTION_STRING", &connection)]), none);
        assert_eq!(kind("b", &[("AZURE_STORAGE_ACCOUNT", "a"), ("AZURE_STORAGE_KEY", &key)]), none);
    }

    #[test]
    fn a_credential_is_not_shown() {
        for credential in
            [Credential::key("a", &BASE64_STANDARD.encode("canary")).unwrap(), Credential::signature("sig=canary")]
        {
            let text = format!("{credential:?}");
            assert!(!text.contains("canary") && !text.contains(&BASE64_STANDARD.encode("canary")), "{text}");
        }
        let error = Credential::key("a", "canary!").unwrap_err();
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}
