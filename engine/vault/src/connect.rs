//! Clients of object stores.
//!
//! Each vault has two: one for segments, whose attempts are repeated here, and one for the control state, whose database
//! repeats them itself and needs answers sooner.
//!
//! What is absent: making buckets, and asking for credentials. Both belong to whoever runs the store.

use crate::address::{self, Address, Service, Style, is_loopback};
use crate::error::VaultError;
use crate::patience::{CONNECT_LIMIT, CONTROL_REQUEST_LIMIT, REQUEST_LIMIT};
use crate::settings::StoreSettings;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use std::sync::{Arc, Once};
use std::time::Duration;
use url::Url;

/// Attempts of the control state's client for one request that failed at once, and the time they may take together. The
/// database on top of it tries a few times more, within its own limit.
const CONTROL_RETRIES: usize = 8;
const CONTROL_RETRY_LIMIT: Duration = Duration::from_secs(30);
/// Longest pause between two of them.
const CONTROL_PAUSE_MAX: Duration = Duration::from_secs(4);

/// Region of a store that has none: those that only speak S3 take any.
const REGION_OF_NONE: &str = "us-east-1";

/// Any of these is a way to know who asks. Without one, only a machine of the provider's own cloud has an identity.
const S3_IDENTITIES: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];
const AZURE_IDENTITIES: [&str; 9] = [
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_CLIENT_SECRET",
    "AZURE_STORAGE_TOKEN",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_IDENTITY_TOKEN",
];

/// A store that has been opened. Nothing has been asked of it yet.
pub(crate) struct Connected {
    pub(crate) data: Arc<dyn ObjectStore>,
    pub(crate) control: Arc<dyn ObjectStore>,
    pub(crate) prefix: Path,
    /// Where the objects are files of this machine.
    pub(crate) folder: Option<std::path::PathBuf>,
    /// For questions about the bucket itself.
    pub(crate) signer: Option<Arc<dyn object_store::signer::Signer>>,
    pub(crate) plain_http: bool,
}

pub(crate) fn connect(
    url: &str,
    address: Address,
    create: bool,
    settings: &StoreSettings,
) -> Result<Connected, VaultError> {
    if !matches!(address, Address::Folder(_)) {
        choose_tls();
    }
    match address {
        Address::Folder(folder) => local(url, &folder, create),
        Address::S3 { bucket, prefix, service } => s3(url, &bucket, prefix, &service, settings),
        Address::Azure { account, container, prefix, service } => {
            azure(url, (&account, &container), prefix, &service, settings)
        }
        Address::Google { bucket, prefix, service } => google(url, &bucket, prefix, &service, settings),
    }
}

/// Decides whose TLS this process speaks, once; what somebody decided before stays. Opening a store does it by itself.
pub fn choose_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("TLS was chosen before");
        }
    });
}

fn local(url: &str, folder: &std::path::Path, create: bool) -> Result<Connected, VaultError> {
    if create {
        std::fs::create_dir_all(folder).map_err(|error| VaultError::BadUrl {
            url: url.to_owned(),
            reason: format!("its folder cannot be made: {error}"),
        })?;
    } else if !folder.is_dir() {
        return Err(VaultError::NoVault { url: url.to_owned() });
    }
    let store = LocalFileSystem::new_with_prefix(folder)
        .map_err(|source| VaultError::Store { url: url.to_owned(), object: String::new(), source })?
        // Off by default there; without it a point could be committed whose segments are lost with the power.
        .with_fsync(true);
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    let control = store.clone();
    let folder = Some(folder.to_owned());
    Ok(Connected { data: store, control, prefix: Path::default(), folder, signer: None, plain_http: false })
}

/// Attempts are repeated above this client.
fn data_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn control_retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { max_backoff: CONTROL_PAUSE_MAX, ..BackoffConfig::default() },
        max_retries: CONTROL_RETRIES,
        retry_timeout: CONTROL_RETRY_LIMIT,
    }
}

fn options(limit: Duration, plain_http: bool) -> ClientOptions {
    let options = ClientOptions::new().with_timeout(limit).with_connect_timeout(CONNECT_LIMIT);
    // A store without TLS is reached from machines without certificates too.
    options.with_allow_http(plain_http).with_no_system_certificates(plain_http)
}

fn unusable(url: &str) -> impl Fn(object_store::Error) -> VaultError {
    let url = url.to_owned();
    move |source| VaultError::UnsupportedUrl { url: url.clone(), source }
}

/// The endpoint that the URL names, or else the environment; and whether it goes without TLS. What travels is sealed or
/// signed, but names, sizes and the control state are not: without TLS it stays on this machine, unless told otherwise.
fn endpoint(
    url: &str,
    service: &Service,
    from_settings: Option<&str>,
    allowed: bool,
) -> Result<(Option<Url>, bool), VaultError> {
    let bad = |reason: &str| VaultError::BadUrl { url: url.to_owned(), reason: reason.to_owned() };
    let endpoint = match (&service.endpoint, from_settings) {
        (Some(endpoint), _) => Some(endpoint.clone()),
        (None, Some(text)) => Some(address::endpoint(text, &bad)?),
        (None, None) => None,
    };
    let plain_http = endpoint.as_ref().is_some_and(|endpoint| endpoint.scheme() == "http");
    match &endpoint {
        Some(endpoint) if plain_http && !allowed && !is_loopback(endpoint) => {
            Err(VaultError::PlainHttp { url: url.to_owned(), host: endpoint.host_str().unwrap_or_default().to_owned() })
        }
        _ => Ok((endpoint, plain_http)),
    }
}

/// Elsewhere than in the provider's own cloud nobody hands out an identity, and asking for one takes long.
fn need_identity(url: &str, known: &[&str], settings: &StoreSettings, elsewhere: bool) -> Result<(), VaultError> {
    match elsewhere && settings.first(known).is_none() {
        true => Err(VaultError::NoCredentials { url: url.to_owned() }),
        false => Ok(()),
    }
}

fn s3(
    url: &str,
    bucket: &str,
    prefix: Path,
    service: &Service,
    settings: &StoreSettings,
) -> Result<Connected, VaultError> {
    let named = settings.first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]);
    let (endpoint, plain_http) = endpoint(url, service, named, settings.says_yes("AWS_ALLOW_HTTP"))?;
    need_identity(url, &S3_IDENTITIES, settings, endpoint.is_some())?;
    let mut builder = AmazonS3Builder::new();
    for (name, value) in settings.of("AWS_") {
        if let Ok(key) = name.parse() {
            builder = builder.with_config(key, value);
        }
    }
    // Amazon's own buckets are hosts, unless a dot in the name would break the host's certificate.
    let style = match (service.style, &endpoint) {
        (Some(style), _) => style,
        (None, Some(_)) => Style::Path,
        (None, None) if bucket.contains('.') => Style::Path,
        (None, None) => Style::Host,
    };
    builder = builder
        .with_bucket_name(bucket)
        .with_virtual_hosted_style_request(style == Style::Host)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // One by one: not every store that speaks S3 deletes many at once.
        .with_disable_bulk_delete(true);
    let region = service.region.as_deref().or_else(|| settings.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
    builder = builder.with_region(region.unwrap_or(REGION_OF_NONE));
    if let Some(mut endpoint) = endpoint {
        if style == Style::Host {
            let host = format!("{bucket}.{}", endpoint.host_str().unwrap_or_default());
            endpoint.set_host(Some(&host)).map_err(|error| VaultError::BadUrl {
                url: url.to_owned(),
                reason: format!("`{host}` is no host: {error}"),
            })?;
        }
        builder = builder
            .with_config(object_store::aws::AmazonS3ConfigKey::S3Endpoint, endpoint.as_str().trim_end_matches('/'));
    }
    let build = |retries, limit| {
        let builder = builder.clone().with_retry(retries).with_client_options(options(limit, plain_http));
        builder.build().map_err(unusable(url))
    };
    let data = Arc::new(build(data_retries(), REQUEST_LIMIT)?);
    let control = Arc::new(build(control_retries(), CONTROL_REQUEST_LIMIT)?);
    Ok(Connected { signer: Some(data.clone()), data, control, prefix, folder: None, plain_http })
}

fn azure(
    url: &str,
    (account, container): (&str, &str),
    prefix: Path,
    service: &Service,
    settings: &StoreSettings,
) -> Result<Connected, VaultError> {
    let named = settings.first(&["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"]);
    let (endpoint, plain_http) = endpoint(url, service, named, settings.says_yes("AZURE_ALLOW_HTTP"))?;
    need_identity(url, &AZURE_IDENTITIES, settings, endpoint.is_some())?;
    let mut builder = MicrosoftAzureBuilder::new();
    for (name, value) in settings.of("AZURE_") {
        if let Ok(key) = name.parse() {
            builder = builder.with_config(key, value);
        }
    }
    builder = builder.with_account(account).with_container_name(container);
    if let Some(endpoint) = endpoint {
        let text = endpoint.as_str().trim_end_matches('/');
        // Azure's own name the account in the host, any other in the path.
        let in_host = endpoint.host_str().is_some_and(|host| host.starts_with(&format!("{account}.")));
        let in_path = endpoint.path().trim_matches('/') == account;
        builder = builder.with_endpoint(if in_host || in_path { text.to_owned() } else { format!("{text}/{account}") });
    }
    let build = |retries, limit| {
        let builder = builder.clone().with_retry(retries).with_client_options(options(limit, plain_http));
        builder.build().map_err(unusable(url))
    };
    let data = Arc::new(build(data_retries(), REQUEST_LIMIT)?);
    let control = Arc::new(build(control_retries(), CONTROL_REQUEST_LIMIT)?);
    Ok(Connected { signer: None, data, control, prefix, folder: None, plain_http })
}

fn google(
    url: &str,
    bucket: &str,
    prefix: Path,
    service: &Service,
    settings: &StoreSettings,
) -> Result<Connected, VaultError> {
    let (endpoint, plain_http) = endpoint(url, service, None, settings.says_yes("GOOGLE_ALLOW_HTTP"))?;
    let mut builder = GoogleCloudStorageBuilder::new();
    for (name, value) in settings.of("GOOGLE_") {
        if let Ok(key) = name.parse() {
            builder = builder.with_config(key, value);
        }
    }
    builder = builder.with_bucket_name(bucket);
    if let Some(endpoint) = endpoint {
        builder = builder.with_base_url(endpoint.as_str().trim_end_matches('/'));
    }
    let build = |retries, limit| {
        let builder = builder.clone().with_retry(retries).with_client_options(options(limit, plain_http));
        builder.build().map_err(unusable(url))
    };
    let data = Arc::new(build(data_retries(), REQUEST_LIMIT)?);
    let control = Arc::new(build(control_retries(), CONTROL_REQUEST_LIMIT)?);
    Ok(Connected { signer: None, data, control, prefix, folder: None, plain_http })
}
