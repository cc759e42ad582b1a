//! HTTP for hooks: one exchange, one origin, TLS verified, everything bounded.

use crate::limits::*;
use crate::secret::Hidden;
use muster_ports::{Failure, FailureClass, Result};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::Uri;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET`, `PUT`, `POST`, `PATCH`, `DELETE`.
    pub method: &'static str,
    /// Absolute, below `origin`. Parts of it may be secret.
    pub url: String,
    /// `https://dns.example.com`
    pub origin: String,
    pub body: Option<String>,
    pub content_type: Option<&'static str>,
    /// What the script adds, credentials among them.
    pub headers: Vec<(String, Hidden)>,
    /// As PEM: what the origin's certificate is held against; `None` is the public authorities.
    pub authorities: Option<String>,
    /// On writes: the same for every repetition of the same call.
    pub idempotency_key: Option<String>,
    pub within: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReply {
    pub status: u16,
    /// Names in lower case; only those a script may decide by.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// The body was longer than [`REPLY_BYTES_MAX`].
    pub cut: bool,
}

/// Headers that are handed to scripts: no cookies, nothing that could carry a credential into the journal.
const REPLY_HEADERS: [&str; 5] = ["content-type", "content-length", "etag", "location", "retry-after"];

/// Scheme and authority of a URL, lower case and without a port that goes without saying.
pub(crate) fn origin_of(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let authority = uri.authority()?;
    if authority.as_str().contains('@') {
        return None;
    }
    let default_port = match scheme.as_str() {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let port = authority.port_u16().unwrap_or(default_port);
    Some(format!("{scheme}://{}:{port}", authority.host().to_ascii_lowercase()))
}

/// The absolute URL for what a script wrote, if it lies below one of the declared origins.
pub(crate) fn resolve(path: &str, origins: &[&str]) -> Result<(String, String)> {
    let declared = origins.join("`, `");
    if path.starts_with('/') {
        let [origin] = origins else {
            return Err(Failure::permanent(format!("`{path}` does not say which of `{declared}` is meant"))
                .help("write the whole address, for example `http.get(\"https://host/path\")`"));
        };
        let url = format!("{}{path}", origin.trim_end_matches('/'));
        if origin_of(&url).is_some() && origin_of(&url) == origin_of(origin) {
            return Ok((url, (*origin).to_owned()));
        }
        return Err(Failure::permanent(format!("`{path}` is not a path below `{origin}`")));
    }
    let wanted = origin_of(path)
        .ok_or_else(|| Failure::permanent(format!("`{path}` is neither a path that begins with `/` nor an address")))?;
    match origins.iter().find(|origin| origin_of(origin).as_deref() == Some(&wanted)) {
        Some(origin) => Ok((path.to_owned(), (*origin).to_owned())),
        None => Err(Failure::permanent(format!("`{wanted}` is not an origin of this hook; declared: `{declared}`"))
            .help(format!("add `http(\"{wanted}\")` to `needs` of the hook, and have it reviewed"))),
    }
}

pub(crate) async fn exchange(request: &HttpRequest) -> Result<HttpReply> {
    let request = request.clone();
    tokio::task::spawn_blocking(move || exchange_blocking(&request))
        .await
        .map_err(|error| Failure::transient(format!("the HTTP exchange was broken off: {error}")))?
}

fn exchange_blocking(request: &HttpRequest) -> Result<HttpReply> {
    // Redirects are followed by hand, since a hook may not be led to another origin; proxies of the environment would
    // see what only the origin may see.
    let mut tls = ureq::tls::TlsConfig::builder();
    if let Some(pem) = &request.authorities {
        tls = tls.root_certs(ureq::tls::RootCerts::Specific(certificates(pem)?));
    }
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .tls_config(tls.build())
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .https_only(request.origin.starts_with("https://"))
        .timeout_global(Some(request.within))
        .user_agent("muster")
        .build()
        .into();
    let mut url = request.url.clone();
    for _ in 0..=HTTP_REDIRECTS_MAX {
        let reply = once(&agent, request, &url).map_err(|error| failure(request, &error))?;
        let follows = request.method == "GET" && matches!(reply.status, 301 | 302 | 303 | 307 | 308);
        match reply.headers.get("location") {
            Some(location) if follows => url = redirected(request, &url, location)?,
            _ => return Ok(reply),
        }
    }
    Err(Failure::permanent(format!(
        "`{}` redirects more than {HTTP_REDIRECTS_MAX} times (limit `redirects`)",
        request.url
    )))
}

fn certificates(pem: &str) -> Result<Arc<Vec<ureq::tls::Certificate<'static>>>> {
    let mut found = Vec::new();
    for item in ureq::tls::parse_pem(pem.as_bytes()) {
        match item {
            Ok(ureq::tls::PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(Failure::permanent(format!("an authority of this hook does not read: {error}"))),
        }
    }
    Ok(Arc::new(found))
}

fn redirected(request: &HttpRequest, from: &str, location: &str) -> Result<String> {
    let base = origin_of(from).unwrap_or_default();
    let next = if location.starts_with('/') && !location.starts_with("//") {
        format!("{base}{location}")
    } else {
        location.to_owned()
    };
    if origin_of(&next) != origin_of(&request.origin) {
        return Err(Failure::refused(format!(
            "`{from}` redirects to `{location}`, beyond the origin `{}`",
            request.origin
        ))
        .help("a hook follows redirects only within its declared origin; name the final address in the script"));
    }
    Ok(next)
}

fn once(agent: &ureq::Agent, request: &HttpRequest, url: &str) -> Result<HttpReply, ureq::Error> {
    let mut builder = ureq::http::Request::builder().method(request.method).uri(url);
    if let Some(key) = &request.idempotency_key {
        builder = builder.header("Idempotency-Key", key);
    }
    let own = |name: &str| request.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    if let Some(kind) = request.content_type.filter(|_| !own("content-type")) {
        builder = builder.header("Content-Type", kind);
    }
    for (name, value) in &request.headers {
        builder = builder.header(name, value.reveal());
    }
    let mut response = match &request.body {
        Some(body) => {
            // A DELETE may carry a body; the client refuses one by default.
            let sent = agent.configure_request(builder.body(body.as_str())?).allow_non_standard_methods(true).build();
            agent.run(sent)?
        }
        None => agent.run(builder.body(())?)?,
    };
    let headers = REPLY_HEADERS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), response.headers().get(*name)?.to_str().ok()?.to_owned())))
        .collect();
    let mut bytes = Vec::new();
    response.body_mut().as_reader().take(REPLY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    let cut = bytes.len() > REPLY_BYTES_MAX;
    bytes.truncate(REPLY_BYTES_MAX);
    Ok(HttpReply { status: response.status().as_u16(), headers, body: cut_text(&bytes), cut })
}

/// Text of at most [`REPLY_BYTES_MAX`] bytes; what is not UTF-8 is replaced.
pub(crate) fn cut_text(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    if text.len() > REPLY_BYTES_MAX {
        let end = (0..=REPLY_BYTES_MAX).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

fn failure(request: &HttpRequest, error: &ureq::Error) -> Failure {
    use std::io::ErrorKind;
    let class = match error {
        ureq::Error::Timeout(_) => FailureClass::Timeout,
        ureq::Error::Io(io) if io.kind() == ErrorKind::TimedOut => FailureClass::Timeout,
        // A certificate that does not verify arrives as invalid data.
        ureq::Error::Io(io) if io.kind() == ErrorKind::InvalidData => FailureClass::Permanent,
        ureq::Error::Io(_) | ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => {
            FailureClass::Transient
        }
        _ => FailureClass::Permanent,
    };
    Failure::new(class, format!("{} `{}`: {error}", request.method, request.url))
        .help(format!("see whether `{}` answers from where the engine runs", request.origin))
}
