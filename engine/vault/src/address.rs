//! What the URL of a vault says. Pure: nothing is opened, nothing is asked.
//!
//! ```text
//!   file:///absolute/folder
//!   s3://bucket/prefix?endpoint=https://s3.example.org&region=eu-1&style=path|host
//!   az://account/container/prefix?endpoint=http://127.0.0.1:10000      (also abfss://container@account.dfs.core.windows.net/prefix
//!                                                                       and https://account.blob.core.windows.net/container/prefix)
//!   gs://bucket/prefix
//! ```
//!
//! Architecture invariant: a URL holds no secret. It stands in plans, runsheets, journals and messages, so one that
//! looks as if it held one is refused, and the refusal does not repeat it.

use crate::error::VaultError;
use object_store::path::Path;
use std::net::IpAddr;
use std::path::PathBuf;
use url::{Host, Url};

/// A vault's URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Folder(PathBuf),
    S3 { bucket: String, prefix: Path, service: Service },
    Azure { account: String, container: String, prefix: Path, service: Service },
    Google { bucket: String, prefix: Path, service: Service },
}

/// Where the store answers, when that is not the provider's own place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) endpoint: Option<Url>,
    pub(crate) region: Option<String>,
    pub(crate) style: Option<Style>,
}

/// How an S3 bucket stands in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `https://endpoint/bucket/object`
    Path,
    /// `https://bucket.endpoint/object`
    Host,
}

const AZURE_HOSTS: [&str; 2] = ["blob.core.windows.net", "dfs.core.windows.net"];

pub(crate) fn parse(text: &str) -> Result<Address, VaultError> {
    let bad = |reason: &str| VaultError::BadUrl { url: shown(text), reason: reason.to_owned() };
    let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    if url.password().is_some() {
        return Err(bad("a URL with a password in it would be written into plans and journals"));
    }
    if url.fragment().is_some() {
        return Err(bad("`#` has no meaning here"));
    }
    let host = || url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("it names no bucket or account"));
    let named = |name: &str, what: &str| match name {
        "" => Err(bad(&format!("it names no {what}"))),
        name => Ok(name.to_owned()),
    };
    match url.scheme() {
        "file" => {
            if url.query().is_some() {
                return Err(bad("a folder takes no settings after `?`"));
            }
            url.to_file_path().map(Address::Folder).map_err(|()| bad("it does not name a folder of this machine"))
        }
        "s3" | "s3a" => {
            let service = service(&url, &["endpoint", "region", "style"], &bad)?;
            Ok(Address::S3 { bucket: named(host()?, "bucket")?, prefix: prefix(url.path(), &bad)?, service })
        }
        "gs" => {
            let service = service(&url, &["endpoint"], &bad)?;
            Ok(Address::Google { bucket: named(host()?, "bucket")?, prefix: prefix(url.path(), &bad)?, service })
        }
        "az" | "azure" | "abfs" | "abfss" | "https" => {
            let service = service(&url, &["endpoint"], &bad)?;
            let (account, container, rest) = azure(&url, host()?).ok_or_else(|| {
                bad(if url.scheme() == "https" {
                    "`https` is understood for Azure's `<account>.blob.core.windows.net/<container>` only"
                } else {
                    "it does not name an account and a container"
                })
            })?;
            Ok(Address::Azure { account, container, prefix: prefix(&rest, &bad)?, service })
        }
        other => Err(bad(&format!("`{other}` is no kind of store that is known"))),
    }
}

/// Account, container and the rest of the path.
fn azure(url: &Url, host: &str) -> Option<(String, String, String)> {
    let full = AZURE_HOSTS.iter().find_map(|known| host.strip_suffix(known)?.strip_suffix('.'));
    let path = url.path().trim_start_matches('/');
    let (account, container, rest) = match (url.scheme(), url.username()) {
        ("https", "") => {
            let (container, rest) = path.split_once('/').unwrap_or((path, ""));
            (full?, container, rest)
        }
        ("https", _) => return None,
        (_, "") => {
            let (container, rest) = path.split_once('/').unwrap_or((path, ""));
            (full.unwrap_or(host), container, rest)
        }
        (_, container) => (full.unwrap_or(host), container, path),
    };
    let whole = !account.is_empty() && !container.is_empty();
    whole.then(|| (account.to_owned(), container.to_owned(), rest.to_owned()))
}

fn prefix(path: &str, bad: &dyn Fn(&str) -> VaultError) -> Result<Path, VaultError> {
    // Objects below it are named with plain characters only, so the prefix is kept as plain.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let path = path.trim_matches('/');
    if !path.chars().all(plain) {
        return Err(bad("its prefix takes letters, digits, `.`, `_`, `-` and `/`"));
    }
    Path::parse(path).map_err(|error| bad(&error.to_string()))
}

fn service(url: &Url, known: &[&str], bad: &dyn Fn(&str) -> VaultError) -> Result<Service, VaultError> {
    let mut service = Service::default();
    for (key, value) in url.query_pairs() {
        if !known.contains(&key.as_ref()) {
            // The value is not repeated: it may be a secret.
            return Err(bad(&format!(
                "`{key}` is no setting of it (there are {}); credentials come from the environment, never from the URL",
                known.join(", ")
            )));
        }
        match key.as_ref() {
            "endpoint" => service.endpoint = Some(endpoint(&value, bad)?),
            "region" => service.region = Some(value.into_owned()),
            _ => {
                service.style = Some(match value.as_ref() {
                    "path" => Style::Path,
                    "host" => Style::Host,
                    _ => return Err(bad("`style` is `path` or `host`")),
                });
            }
        }
    }
    Ok(service)
}

/// An endpoint as it may stand in a URL or in the environment.
pub(crate) fn endpoint(text: &str, bad: &dyn Fn(&str) -> VaultError) -> Result<Url, VaultError> {
    let endpoint = Url::parse(text).map_err(|error| bad(&format!("its endpoint is no URL: {error}")))?;
    if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host().is_none() {
        return Err(bad("its endpoint is written `https://host:port`"));
    }
    let plain = endpoint.username().is_empty() && endpoint.password().is_none() && endpoint.query().is_none();
    if !plain {
        return Err(bad("its endpoint is written without user, password and settings"));
    }
    Ok(endpoint)
}

/// Whether what is sent there stays on this machine.
pub(crate) fn is_loopback(endpoint: &Url) -> bool {
    match endpoint.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// A URL as a message may show it: without what could be a secret.
pub(crate) fn shown(text: &str) -> String {
    let plain = text.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = plain.split_once("://") else { return plain.to_owned() };
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, _)) if user.contains(':') => format!("{scheme}://{}", &rest[user.len() + 1..]),
        _ => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        parse(url).unwrap_err().to_string()
    }

    #[test]
    fn buckets_containers_and_prefixes_are_found() {
        let prefix = Path::from("shop/vault");
        let s3 = Address::S3 { bucket: "dr".into(), prefix: prefix.clone(), service: Service::default() };
        for url in ["s3://dr/shop/vault", "s3a://dr/shop/vault/", "s3://dr//shop/vault"] {
            assert_eq!(parse(url).unwrap(), s3, "{url}");
        }
        let azure = Address::Azure {
            account: "acme".into(),
            container: "dr".into(),
            prefix: prefix.clone(),
            service: Service::default(),
        };
        for url in [
            "az://acme/dr/shop/vault",
            "abfss://dr@acme.dfs.core.windows.net/shop/vault",
            "abfs://dr@acme/shop/vault",
            "https://acme.blob.core.windows.net/dr/shop/vault",
        ] {
            assert_eq!(parse(url).unwrap(), azure, "{url}");
        }
        let google = Address::Google { bucket: "dr".into(), prefix: Path::default(), service: Service::default() };
        assert_eq!(parse("gs://dr").unwrap(), google);
        assert_eq!(parse("file:///var/vault").unwrap(), Address::Folder("/var/vault".into()));
    }

    #[test]
    fn settings_say_where_and_never_who() {
        let parsed = parse("s3://dr/shop?endpoint=http://127.0.0.1:8333&region=lab&style=path").unwrap();
        let Address::S3 { service, .. } = parsed else { panic!("{parsed:?}") };
        assert_eq!(service.region.as_deref(), Some("lab"));
        assert_eq!(service.style, Some(Style::Path));
        assert!(is_loopback(&service.endpoint.unwrap()));
        for url in [
            "s3://dr/shop?secret_access_key=hush",
            "az://acme/dr?sig=hush",
            "s3://anna:hush@dr/shop",
            "s3://dr/shop?endpoint=https://anna:hush@example.org",
            "s3://dr/shop?endpoint=https://example.org/?token%3Dhush",
            "gs://dr/shop?region=hush",
        ] {
            let text = refused(url);
            assert!(!text.contains("hush"), "{text}");
        }
    }

    #[test]
    fn what_is_no_vault_is_said_why() {
        for (url, reason) in [
            ("vault", "relative URL"),
            ("s4://dr/shop", "`s4` is no kind of store"),
            ("s3:///shop", "names no bucket"),
            ("az://acme", "an account and a container"),
            ("https://example.org/dr", "for Azure's"),
            ("s3://dr/a b", "its prefix takes"),
            ("s3://dr/shop?style=none", "`path` or `host`"),
            ("s3://dr/shop?endpoint=ftp://example.org", "written `https://host:port`"),
            ("file:///v?region=x", "takes no settings"),
        ] {
            let text = refused(url);
            assert!(text.contains(reason), "{url}: {text}");
        }
    }
}
