//! The doors of a script: `http`, `net`, `dns`, `mail`, `log` and `secret`, and how their arguments are read.

use crate::call::{DnsReplace, Header, HostCall, MailCall};
use crate::mail::{Letter, MailTls};
use crate::sandbox::span_of;
use crate::script::{Line, Stop};
use crate::secret::{Part, Sealed, SecretRef};
use crate::value::*;
use muster_ports::Failure;
use rhai::{Dynamic, Engine, EvalAltResult, INT, ImmutableString, Map};
use serde_json::Value as Json;

pub(crate) type Outcome<T = Dynamic> = Result<T, Box<EvalAltResult>>;

#[derive(Clone, Debug)]
pub(crate) struct Http(pub(crate) Line);
#[derive(Clone, Debug)]
pub(crate) struct Net(pub(crate) Line);
#[derive(Clone, Debug)]
pub(crate) struct Dns(pub(crate) Line);
#[derive(Clone, Debug)]
pub(crate) struct Mail(pub(crate) Line);
#[derive(Clone, Debug)]
pub(crate) struct Log(pub(crate) Line);

/// Headers that a script may not set: they say where a message goes and where it ends.
const HEADERS_FORBIDDEN: [&str; 6] =
    ["host", "content-length", "transfer-encoding", "connection", "idempotency-key", "cookie"];
/// Headers of one request.
const HEADERS_MAX: usize = 20;

pub(crate) fn mistake<T>(message: impl Into<String>) -> Outcome<T> {
    Err(message.into().into())
}

pub(crate) fn json_of(value: &Dynamic, what: &str) -> Outcome<Json> {
    to_json(value).or_else(|kind| mistake(format!("{what} cannot hold a {kind}")))
}

pub(crate) fn text_of(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), str::to_owned)
}

fn as_secret(value: &Dynamic) -> Option<SecretRef> {
    value.read_lock::<SecretRef>().map(|secret| secret.clone())
}

pub(crate) fn secret_of(value: &Dynamic, what: &str) -> Outcome<SecretRef> {
    as_secret(value).map_or_else(|| mistake(format!("{what} is a secret: `secret(\"name\")`")), Ok)
}

/// A text, a secret, or an array of both that are put together when they are sent.
pub(crate) fn sealed_of(value: &Dynamic, what: &str) -> Outcome<Sealed> {
    if let Some(secret) = as_secret(value) {
        return Ok(Sealed(vec![Part::Secret(secret)]));
    }
    if let Ok(items) = value.as_array_ref() {
        let parts = items.iter().map(|item| sealed_of(item, what)).collect::<Outcome<Vec<_>>>()?;
        return Ok(Sealed(parts.into_iter().flat_map(|part| part.0).collect()));
    }
    json_of(value, what).map(|json| Sealed::plain(text_of(&json)))
}

pub(crate) fn register_doors(engine: &mut Engine, line: &Line) {
    register_http(engine);
    engine.register_type_with_name::<Net>("net");
    engine.register_fn("tcp", |net: Net, ip: Ip, port: INT| ask_tcp(&net, ip.to_string(), port));
    engine.register_fn("tcp", |net: Net, ip: ImmutableString, port: INT| ask_tcp(&net, ip.to_string(), port));
    engine.register_fn("http", |net: Net, url: ImmutableString| -> Outcome {
        net.0.ask(HostCall::NetHttp { url: url.to_string() }).map(|json| from_json(&json))
    });
    register_dns(engine);
    engine.register_type_with_name::<Mail>("mail");
    engine.register_fn("send", |mail: Mail, options: Map| -> Outcome<()> {
        let call = mail_call(&options)?;
        mail.0.ask(HostCall::Mail(Box::new(call))).map(|_| ())
    });
    engine.register_type_with_name::<Log>("log");
    engine.register_fn("info", |log: Log, text: Dynamic| ask_log(&log, false, &text));
    engine.register_fn("warn", |log: Log, text: Dynamic| ask_log(&log, true, &text));
    engine.register_type_with_name::<SecretRef>("secret");
    let known = line.secrets.clone();
    engine.register_fn("secret", move |name: ImmutableString| -> Outcome {
        if let Some(secret) = known.iter().find(|secret| secret.name == name.as_str()) {
            return Ok(Dynamic::from(secret.clone()));
        }
        let failure = Failure::permanent(format!("the contract does not name the secret `{name}`"))
            .help(format!("add `secret({name})` to `needs` of the hook, and have it reviewed"));
        Stop::Host(failure).raise()
    });
}

fn register_http(engine: &mut Engine) {
    engine.register_type_with_name::<Http>("http");
    for (name, method) in [("get", "GET"), ("delete", "DELETE")] {
        engine.register_fn(name, move |http: Http, path: Dynamic| ask_http(&http, method, &path, None, &Map::new()));
    }
    engine.register_fn("get", |http: Http, path: Dynamic, options: Map| ask_http(&http, "GET", &path, None, &options));
    engine.register_fn("delete", |http: Http, path: Dynamic, body: Dynamic| {
        ask_http(&http, "DELETE", &path, Some(body), &Map::new())
    });
    engine.register_fn("delete", |http: Http, path: Dynamic, body: Dynamic, options: Map| {
        ask_http(&http, "DELETE", &path, Some(body), &options)
    });
    for (name, method) in [("put", "PUT"), ("post", "POST"), ("patch", "PATCH")] {
        engine.register_fn(name, move |http: Http, path: Dynamic, body: Dynamic| {
            ask_http(&http, method, &path, Some(body), &Map::new())
        });
        engine.register_fn(name, move |http: Http, path: Dynamic, body: Dynamic, options: Map| {
            ask_http(&http, method, &path, Some(body), &options)
        });
    }
}

fn register_dns(engine: &mut Engine) {
    engine.register_type_with_name::<Dns>("dns");
    engine.register_fn("lookup", |dns: Dns, name: ImmutableString, kind: ImmutableString| -> Outcome {
        let call = HostCall::DnsLookup { name: name.to_string(), kind: kind.to_string() };
        dns.0.ask(call).map(|json| from_json(&json))
    });
    engine.register_fn("replace", |dns: Dns, options: Map| -> Outcome<()> {
        let set = dns_set(&options)?;
        dns.0.ask(HostCall::DnsReplace(Box::new(set))).map(|_| ())
    });
}

fn ask_http(http: &Http, method: &'static str, path: &Dynamic, body: Option<Dynamic>, options: &Map) -> Outcome {
    let path = sealed_of(path, "an address")?;
    let body = body.map(|body| json_of(&body, "a body")).transpose()?.filter(|body| !body.is_null());
    let headers = headers_of(options)?;
    http.0.ask(HostCall::Http { method, path, body, headers }).map(|json| from_json(&json))
}

/// `bearer`, `user` with `password`, and `headers`.
fn headers_of(options: &Map) -> Outcome<Vec<(String, Header)>> {
    let mut headers = Vec::new();
    for (key, value) in options {
        match key.as_str() {
            "bearer" => {
                let secret = secret_of(value, "`bearer`")?;
                let text = Sealed(vec![Part::Plain("Bearer ".into()), Part::Secret(secret)]);
                headers.push(("authorization".to_owned(), Header::Text(text)));
            }
            "user" => {
                let Some(password) = options.get("password") else {
                    return mistake("`user` goes with `password`");
                };
                let (user, password) = (text_of(&json_of(value, "`user`")?), secret_of(password, "`password`")?);
                headers.push(("authorization".to_owned(), Header::Basic { user, password }));
            }
            "password" if options.contains_key("user") => {}
            "headers" => {
                let Ok(own) = value.as_map_ref() else { return mistake("`headers` is an object map") };
                for (name, value) in own.iter() {
                    headers.push((header_name(name)?, Header::Text(sealed_of(value, "a header")?)));
                }
            }
            other => {
                return mistake(format!("`http` knows `bearer`, `user`, `password` and `headers`, not `{other}`"));
            }
        }
    }
    match headers.len() > HEADERS_MAX {
        true => mistake(format!("a request has at most {HEADERS_MAX} headers")),
        false => Ok(headers),
    }
}

fn header_name(name: &str) -> Outcome<String> {
    let name = name.to_ascii_lowercase();
    let good = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    match good && !HEADERS_FORBIDDEN.contains(&name.as_str()) {
        true => Ok(name),
        false => mistake(format!("`{name}` is not a header that a hook may set")),
    }
}

pub(crate) fn known_only(options: &Map, what: &str, known: &[&str]) -> Outcome<()> {
    match options.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => mistake(format!("`{what}` knows `{}`, not `{key}`", known.join("`, `"))),
        None => Ok(()),
    }
}

pub(crate) fn text_option(options: &Map, what: &str, name: &str) -> Outcome<String> {
    match options.get(name) {
        Some(value) => json_of(value, name).map(|json| text_of(&json)),
        None => mistake(format!("`{what}` needs `{name}`")),
    }
}

fn texts_option(options: &Map, what: &str, name: &str) -> Outcome<Vec<String>> {
    match options.get(name).map(|value| json_of(value, name)).transpose()? {
        Some(Json::Array(items)) => Ok(items.iter().map(text_of).collect()),
        Some(one) => Ok(vec![text_of(&one)]),
        None => mistake(format!("`{what}` needs `{name}`")),
    }
}

fn dns_set(options: &Map) -> Outcome<DnsReplace> {
    const WHAT: &str = "dns.replace";
    known_only(options, WHAT, &["zone", "name", "kind", "ttl", "values", "key"])?;
    let seconds = match options.get("ttl") {
        Some(ttl) => span_of(ttl)?.as_secs(),
        None => return mistake("`dns.replace` needs `ttl`"),
    };
    Ok(DnsReplace {
        zone: text_option(options, WHAT, "zone")?,
        name: text_option(options, WHAT, "name")?,
        kind: text_option(options, WHAT, "kind")?,
        ttl: u32::try_from(seconds).or_else(|_| mistake("`ttl` is too long"))?,
        values: texts_option(options, WHAT, "values")?,
        key: options.get("key").filter(|key| !key.is_unit()).map(|key| secret_of(key, "`key`")).transpose()?,
    })
}

fn mail_call(options: &Map) -> Outcome<MailCall> {
    const WHAT: &str = "mail.send";
    known_only(options, WHAT, &["from", "to", "subject", "text", "tls", "user", "password"])?;
    let tls = match options.get("tls") {
        None => MailTls::StartTls,
        Some(word) => match text_of(&json_of(word, "`tls`")?).as_str() {
            "starttls" => MailTls::StartTls,
            "tls" => MailTls::Tls,
            "none" => MailTls::None,
            other => return mistake(format!("`tls` is \"starttls\", \"tls\" or \"none\", not \"{other}\"")),
        },
    };
    let login = match (options.get("user"), options.get("password")) {
        (Some(user), Some(password)) => Some((text_of(&json_of(user, "`user`")?), secret_of(password, "`password`")?)),
        (None, None) => None,
        _ => return mistake("`user` goes with `password`"),
    };
    let letter = Letter {
        from: text_option(options, WHAT, "from")?,
        to: texts_option(options, WHAT, "to")?,
        subject: text_option(options, WHAT, "subject")?,
        text: text_option(options, WHAT, "text")?,
    };
    Ok(MailCall { letter, tls, login })
}

fn ask_tcp(net: &Net, ip: String, port: INT) -> Outcome<bool> {
    net.0.ask(HostCall::Tcp { ip, port }).map(|json| json.as_bool().unwrap_or(false))
}

fn ask_log(log: &Log, warn: bool, text: &Dynamic) -> Outcome<()> {
    let text = text_of(&json_of(text, "a log line")?);
    log.0.ask(HostCall::Log { warn, text }).map(|_| ())
}
