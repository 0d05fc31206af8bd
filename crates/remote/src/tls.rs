//! What a connection with TLS trusts, and how it shows who it is. This module must never turn checking off.

use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::builder::BuildError;

/// TLS settings. The default trusts the public authorities that Mozilla trusts and shows no certificate.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// A file of certificates in PEM: then only these authorities are trusted, and no public one.
    pub authorities: Option<PathBuf>,
    /// The files of a certificate chain and its key in PEM, to show to a hub that asks for them.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the hub's certificate must have; default: the address's host.
    pub server_name: Option<String>,
}

impl TlsOptions {
    pub(crate) fn config(&self) -> Result<ClientTlsConfig, BuildError> {
        let mut config = ClientTlsConfig::new();
        config = match &self.authorities {
            Some(path) => config.ca_certificate(Certificate::from_pem(read(path)?)),
            None => config.with_webpki_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    std::fs::read(path).map_err(|error| BuildError::Tls(format!("cannot read {}: {error}", path.display())))
}
