//! What the text of a location means: which service, which container, which path in it; or a local path. Must never
//! accept a text with a credential in it, for such texts are shown and kept.

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

use crate::error::{Error, Result};

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Local(PathBuf),
    Object {
        cloud: Cloud,
        container: String,
        /// What a user writes before the path: `az://container`.
        root: String,
        /// Parts parted by `/`, none of them empty; empty for the container itself.
        path: String,
    },
}

/// A service, as far as the text says which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cloud {
    Azure {
        /// The account that the URL names.
        account: Option<String>,
        /// Where the account's blobs are, if the URL says so.
        endpoint: Option<String>,
    },
    Amazon,
    Google,
}

impl Place {
    /// Reads a path, which starts at `base` if it is relative, or a URL.
    pub(crate) fn parse(text: &str, base: &Path) -> Result<Self> {
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(Self::Local(base.join(text))) };
        refuse_credentials(text, scheme, rest)?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        match scheme.to_ascii_lowercase().as_str() {
            "file" => local(text, host, path),
            "az" | "azure" | "adl" | "abfs" | "abfss" => azure(text, scheme, host, path),
            "s3" | "s3a" => object(text, Cloud::Amazon, host, format!("{scheme}://{host}"), path),
            "gs" => object(text, Cloud::Google, host, format!("{scheme}://{host}"), path),
            "http" | "https" => azure_http(text, scheme, host, path),
            _ => Err(Error::invalid(format!("'{text}' is not a place that is known here"))
                .help("a path, file://, az://CONTAINER/PATH, abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH, s3://BUCKET/PATH or gs://BUCKET/PATH")),
        }
    }
}

/// A signature or a password in a URL would be shown, and kept with the run.
fn refuse_credentials(text: &str, scheme: &str, rest: &str) -> Result<()> {
    let (host, _) = rest.split_once('/').unwrap_or((rest, ""));
    let user = host.rsplit_once('@').map(|(user, _)| user);
    let is_container = scheme.starts_with("ab") || scheme.starts_with("az") || scheme == "adl";
    let has_user = user.is_some_and(|user| !is_container || user.contains(':'));
    let query = text.split_once('?').map(|(_, query)| query.to_ascii_lowercase());
    let has_signature = query.is_some_and(|query| {
        query
            .split(['&', '?'])
            .any(|pair| ["sig=", "x-amz-", "x-goog-", "sv=", "token="].iter().any(|key| pair.starts_with(key)))
    });
    if has_user || has_signature {
        let host = host.rsplit('@').next().unwrap_or_default();
        return Err(Error::invalid(format!("the URL {scheme}://{host}/… holds a credential"))
            .help("take it out of the URL, and give it as a variable: AZURE_STORAGE_SAS_TOKEN, AWS_ACCESS_KEY_ID, …"));
    }
    Ok(())
}

fn local(text: &str, host: &str, path: &str) -> Result<Place> {
    if !host.is_empty() && host != "localhost" {
        return Err(Error::invalid(format!("'{text}' is a file of another machine")).help("write file:///PATH"));
    }
    let path = percent_decode_str(path).decode_utf8();
    let path = path.map_err(|_| Error::invalid(format!("'{text}' is not UTF-8")))?;
    Ok(Place::Local(PathBuf::from(format!("/{path}"))))
}

/// `az://CONTAINER/PATH`, or `abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH`.
fn azure(text: &str, scheme: &str, host: &str, path: &str) -> Result<Place> {
    let root = format!("{scheme}://{host}");
    let Some((container, service)) = host.split_once('@') else {
        return object(text, Cloud::Azure { account: None, endpoint: None }, host, root, path);
    };
    let account = service.split('.').next().unwrap_or_default();
    if account.is_empty() || !service.contains('.') {
        return Err(Error::invalid(format!("'{text}' names no account"))
            .help("write abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH"));
    }
    // Blobs and files of an account have two endpoints; this program talks to that of the blobs.
    let endpoint = format!("https://{}", service.replacen(".dfs.", ".blob.", 1));
    object(text, Cloud::Azure { account: Some(account.to_owned()), endpoint: Some(endpoint) }, container, root, path)
}

/// `https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH`, or an emulator's `http://127.0.0.1:10000/ACCOUNT/CONTAINER/PATH`.
fn azure_http(text: &str, scheme: &str, host: &str, path: &str) -> Result<Place> {
    let path = percent_decode_str(path).decode_utf8().map_err(|_| Error::invalid(format!("'{text}' is not UTF-8")))?;
    let (first, rest) = path.split_once('/').unwrap_or((&path, ""));
    let name = host.split(':').next().unwrap_or_default();
    if name == "localhost" || name.parse::<std::net::Ipv4Addr>().is_ok() {
        let (container, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let endpoint = format!("{scheme}://{host}/{first}");
        let root = format!("{endpoint}/{container}");
        let cloud = Cloud::Azure { account: Some(first.to_owned()), endpoint: Some(endpoint) };
        return object(text, cloud, container, root, rest);
    }
    let is_azure = name.contains(".blob.") || name.contains(".dfs.");
    let Some((account, _)) = name.split_once('.').filter(|_| is_azure && scheme == "https") else {
        return Err(Error::invalid(format!("'{text}' is no address of object storage")).help(
            "of https addresses those of Azure are known: https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH",
        ));
    };
    let endpoint = format!("https://{}", host.replacen(".dfs.", ".blob.", 1));
    let cloud = Cloud::Azure { account: Some(account.to_owned()), endpoint: Some(endpoint) };
    object(text, cloud, first, format!("{scheme}://{host}/{first}"), rest)
}

fn object(text: &str, cloud: Cloud, container: &str, root: String, path: &str) -> Result<Place> {
    if container.is_empty() {
        return Err(Error::invalid(format!("'{text}' names no container")).help("it comes right after the ://"));
    }
    Ok(Place::Object { cloud, container: container.to_owned(), root, path: tidy(text, path)? })
}

/// One path has one spelling.
pub(crate) fn tidy(text: &str, path: &str) -> Result<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(Error::invalid(format!("'{text}' has a part '..'")).help("write the path without it"));
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match Place::parse(text, Path::new("/base")).unwrap() {
            Place::Local(path) => path.display().to_string(),
            Place::Object { cloud, container, root, path } => format!("{cloud:?} {container} {root} {path}"),
        }
    }

    #[test]
    fn what_users_write_means_what_their_tools_mean() {
        assert_eq!(shown("data/x"), "/base/data/x");
        assert_eq!(shown("/data"), "/data");
        assert_eq!(shown("file:///data/a%20b"), "/data/a b");
        assert_eq!(shown("az://c/p//q/./r/"), "Azure { account: None, endpoint: None } c az://c p/q/r");
        assert_eq!(
            shown("abfss://c@a.dfs.core.windows.net/p"),
            "Azure { account: Some(\"a\"), endpoint: Some(\"https://a.blob.core.windows.net\") } c \
             abfss://c@a.dfs.core.windows.net p"
        );
        assert_eq!(
            shown("https://a.blob.core.windows.net/c/p%20q"),
            "Azure { account: Some(\"a\"), endpoint: Some(\"https://a.blob.core.windows.net\") } c \
             https://a.blob.core.windows.net/c p q"
        );
        assert_eq!(
            shown("http://127.0.0.1:10000/dev/c/p"),
            "Azure { account: Some(\"dev\"), endpoint: Some(\"http://127.0.0.1:10000/dev\") } c \
             http://127.0.0.1:10000/dev/c p"
        );
        assert_eq!(shown("s3://b/p/x-*.parquet"), "Amazon b s3://b p/x-*.parquet");
        assert_eq!(shown("gs://b/p-?.parquet"), "Google b gs://b p-?.parquet");
    }

    #[test]
    fn a_credential_in_a_url_is_refused_and_not_shown() {
        for text in [
            "az://c/p?sv=2024&sig=canary",
            "https://a.blob.core.windows.net/c/p?sp=r&SIG=canary",
            "s3://key:canary@b/p",
            "abfss://c:canary@a.dfs.core.windows.net/p",
        ] {
            let error = Place::parse(text, Path::new("/")).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_with_advice() {
        for text in ["ftp://h/p", "az:///p", "az://c/../d", "http://example.com/x", "abfss://c@a/p", "file://host/p"] {
            let error = Place::parse(text, Path::new("/")).unwrap_err();
            assert!(error.help.is_some(), "{text}: {error}");
        }
    }
}
