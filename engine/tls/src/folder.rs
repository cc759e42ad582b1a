//! Reads the certificates of a side.

use muster_ports::{Failure, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub(crate) const AUTHORITY: &str = "ca-cert.pem";
pub(crate) const AUTHORITY_KEY: &str = "ca-key.pem";
pub(crate) const SERVER: (&str, &str) = ("server-cert.pem", "server-key.pem");
pub(crate) const CLIENT: (&str, &str) = ("client-cert.pem", "client-key.pem");

/// What answers: it shows `server-cert.pem` and lets in whom the authority has signed, nobody else.
pub fn acceptor(folder: &Path) -> Result<TlsAcceptor> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(folder)?), provider())
        .build()
        .map_err(|error| unusable(folder, AUTHORITY, error))?;
    let (chain, key) = own(folder, SERVER)?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(folder, SERVER.0, error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| unusable(folder, SERVER.1, error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What calls: it shows `client-cert.pem` and believes a server that the authority has signed for the name called.
#[derive(Clone)]
pub struct Caller {
    connector: TlsConnector,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Caller").finish_non_exhaustive()
    }
}

impl Caller {
    pub fn open(folder: &Path) -> Result<Self> {
        Ok(Self { connector: connector(folder)? })
    }

    /// Shakes hands over `stream` with whom is called by `host`: a host name or an IP address.
    pub async fn call<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: S,
    ) -> std::io::Result<TlsStream<S>> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
        self.connector.connect(name, stream).await
    }
}

fn connector(folder: &Path) -> Result<TlsConnector> {
    let (chain, key) = own(folder, CLIENT)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(folder, CLIENT.0, error))?
        .with_root_certificates(roots(folder)?)
        .with_client_auth_cert(chain, key)
        .map_err(|error| unusable(folder, CLIENT.1, error))?;
    Ok(TlsConnector::from(Arc::new(config)))
}

fn provider() -> Arc<crypto::CryptoProvider> {
    Arc::new(crypto::ring::default_provider())
}

fn roots(folder: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(folder, AUTHORITY)? {
        roots.add(certificate).map_err(|error| unusable(folder, AUTHORITY, error))?;
    }
    Ok(roots)
}

fn own(
    folder: &Path,
    (certificate, key): (&str, &str),
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = certificates(folder, certificate)?;
    let text = private(folder, key)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| unusable(folder, key, error))?;
    Ok((chain, key))
}

fn certificates(folder: &Path, name: &str) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(folder, name)?;
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(folder, name, error))?;
    if found.is_empty() {
        return Err(unusable(folder, name, "no certificate is in it"));
    }
    Ok(found)
}

fn read(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join(name);
    std::fs::read(&path).map_err(|error| {
        Failure::from(error)
            .during(format!("read `{}`", path.display()))
            .help("`muster certificate issue` writes such a folder")
    })
}

/// A key that others can read is no secret.
pub(crate) fn private(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join(name);
    #[cfg(unix)]
    if let Ok(found) = std::fs::metadata(&path) {
        let mode = std::os::unix::fs::PermissionsExt::mode(&found.permissions());
        if mode & 0o077 != 0 {
            return Err(Failure::refused(format!("others can read the key `{}`", path.display()))
                .help(format!("`chmod 600 {}`; if anyone else had it, issue a new one", path.display())));
        }
    }
    read(folder, name)
}

pub(crate) fn unusable(folder: &Path, name: &str, why: impl std::fmt::Display) -> Failure {
    Failure::permanent(format!("`{}` cannot be used: {why}", folder.join(name).display()))
        .help("`muster certificate issue` writes a new one")
}
