//! Secrets, DNS and mail: what leaves, what the journal keeps, what a drill refuses.

use crate::support::*;
use muster_hooks::{HookEnd, MailTls};
use muster_ports::{FailureClass, Result};
use muster_runsheet::{HookSheet, Need, Value};

fn token() -> Need {
    Need::Secret { name: "token".into(), key: "dr/token".into() }
}

fn posting(text: &str) -> HookSheet {
    sheet("post", &[], vec![Need::Http { origin: "https://api.example.com".into() }, token()], text)
}

fn journal_of(bench: &Bench, end: &Result<HookEnd>) -> String {
    format!("{:?} {:?} {end:?}", bench.records.lock().unwrap(), bench.notes.lock().unwrap())
}

#[tokio::test]
async fn a_secret_goes_out_and_stays_out_of_the_journal() {
    let mut bench = Bench::default();
    bench.world.body = Some("you sent value-of-dr/token".into());
    let text = r#"fn post() {
        let reply = http.post("/hooks", #{ text: "moved" }, #{ bearer: secret("token"), headers: #{ "X-Key": secret("token") } });
        log.info(reply.body);
        reply.body
    }"#;
    let end = bench.run(&posting(text)).await;
    let requests = bench.world.requests.lock().unwrap();
    let sent: Vec<(&str, &str)> =
        requests[0].headers.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
    assert_eq!(sent, [("authorization", "Bearer value-of-dr/token"), ("x-key", "value-of-dr/token")]);
    assert_eq!(end.as_ref().unwrap().value, "you sent ***");
    assert!(!journal_of(&bench, &end).contains("value-of"), "{}", journal_of(&bench, &end));
}

#[tokio::test]
async fn a_secret_may_be_the_whole_address_or_a_password() {
    let bench = Bench::default();
    let text = r#"fn post() {
        http.get(["/services/", secret("token")]);
        http.get("/", #{ user: "ops", password: secret("token") });
    }"#;
    let end = bench.run(&posting(text)).await;
    assert!(end.is_ok(), "{end:?}");
    let requests = bench.world.requests.lock().unwrap();
    assert_eq!(requests[0].url, "https://api.example.com/services/value-of-dr/token");
    assert_eq!(requests[1].headers[0].1.reveal(), "Basic b3BzOnZhbHVlLW9mLWRyL3Rva2Vu");
    assert!(!journal_of(&bench, &end).contains("value-of"));
}

#[tokio::test]
async fn a_script_cannot_look_into_a_secret() {
    for text in [
        "fn post() { log.info(secret(\"token\")); }",
        "fn post() { secret(\"token\") }",
        "fn post() { checkpoint(\"a\", secret(\"token\")); }",
        "fn post() { http.post(\"/\", #{ a: secret(\"token\") }); }",
        "fn post() { secret(\"other\"); }",
        "fn post() { http.get(\"/\", #{ headers: #{ host: \"x\" } }); }",
    ] {
        let bench = Bench::default();
        let end = bench.run(&posting(text)).await;
        assert_eq!(end.as_ref().unwrap_err().class, FailureClass::Permanent, "{text}");
        assert!(!journal_of(&bench, &end).contains("value-of"), "{text}");
        assert!(bench.world.requests.lock().unwrap().is_empty(), "{text}");
    }
    let bench = Bench::default();
    let end = bench.run(&posting("fn post() { `${secret(\"token\")}` }")).await;
    assert!(!journal_of(&bench, &end).contains("value-of"));
}

#[tokio::test]
async fn needs_are_filled_with_the_arguments_of_the_step() {
    let api = Value::Text("https://dns.example.com:8443".into());
    let key = Value::Secret { name: "api-key".into(), key: "dr/api".into() };
    let bench = Bench::with(&[("api", api), ("key", key)]);
    let needs = vec![Need::Http { origin: "{api}".into() }];
    let text = "fn ask(api, key) { http.get(\"/zones\", #{ bearer: key }).status }";
    let end = bench.run(&sheet("ask", &["api", "key"], needs, text)).await.unwrap();
    assert_eq!(end.value, 200);
    let requests = bench.world.requests.lock().unwrap();
    assert_eq!(requests[0].url, "https://dns.example.com:8443/zones");
    assert_eq!(requests[0].headers[0].1.reveal(), "Bearer value-of-dr/api");
}

#[tokio::test]
async fn stdin_of_a_guest_may_hold_a_secret() {
    let bench = Bench::with(&[("db", Value::Machine("db".into()))]);
    let text =
        r#"fn login(db) { db.exec("/bin/cat", #{ stdin: ["alter user sa with password '", secret("token"), "'"] }); }"#;
    let end = bench.run(&sheet("login", &["db"], vec![Need::Guest, token()], text)).await;
    assert!(end.is_ok(), "{end:?}");
    let stdin = bench.world.execs.lock().unwrap()[0].stdin.clone();
    assert_eq!(stdin.as_deref(), Some("alter user sa with password 'value-of-dr/token'"));
    assert!(!journal_of(&bench, &end).contains("value-of"));
}

#[tokio::test]
async fn dns_asks_the_declared_server_only() {
    let bench = Bench::default();
    let needs = vec![Need::Dns { server: "10.0.0.53".into() }];
    let text = r#"fn look() { dns.lookup("www.example.com", "A").found }"#;
    assert_eq!(bench.run(&sheet("look", &[], needs, text)).await.unwrap().value, false);
    assert_eq!(bench.world.questions.lock().unwrap()[0].0, "10.0.0.53");
    let refused = bench.run(&sheet("look", &[], vec![Need::Guest], text)).await.unwrap_err();
    assert!(refused.message.contains("`dns.lookup` without declaring it"), "{refused}");
}

#[tokio::test]
async fn an_unsigned_reply_to_a_signed_update_is_not_believed() {
    let bench = Bench::with(&[("key", Value::Secret { name: "tsig".into(), key: "bXVzdGVy".into() })]);
    let needs = vec![Need::Dns { server: "10.0.0.53".into() }];
    let text = r#"fn swing(key) {
        dns.replace(#{ zone: "example.com", name: "www.example.com", kind: "A", ttl: 60, values: ["10.0.0.1"], key: key })
    }"#;
    let failed = bench.run(&sheet("swing", &["key"], needs, text)).await.unwrap_err();
    assert!(failed.message.contains("key for the name server"), "a key that is none: {failed}");
    assert!(bench.world.questions.lock().unwrap().is_empty());
}

#[tokio::test]
async fn mail_is_the_same_message_when_it_is_sent_again() {
    let text = r#"fn tell() {
        mail.send(#{ from: "dr@example.com", to: ["ops@example.com"], subject: "moved", text: "it runs", tls: "none" });
        log.info("sent");
    }"#;
    let tell = sheet("tell", &[], vec![Need::Mail { server: "mail.example.com".into() }], text);
    let bench = Bench::default();
    // The engine dies before the result is in the journal, then runs the hook again.
    assert!(bench.run_with(&tell, &bench.world, &Fuse::after(2)).await.is_err());
    assert!(bench.run(&tell).await.is_ok());
    let mails = bench.world.mails.lock().unwrap();
    assert_eq!(mails.len(), 2);
    assert_eq!((mails[0].server.as_str(), mails[0].tls), ("mail.example.com", MailTls::None));
    let id = |mail: &str| mail.lines().find(|line| line.starts_with("Message-ID")).map(str::to_owned);
    assert!(id(&mails[0].message).is_some());
    assert_eq!(id(&mails[0].message), id(&mails[1].message));
}

#[tokio::test]
async fn a_drill_does_not_leave_its_bubble() {
    let needs = || {
        vec![
            Need::Http { origin: "https://api.example.com".into() },
            Need::Dns { server: "10.0.0.53".into() },
            Need::Mail { server: "mail.example.com".into() },
        ]
    };
    for call in [
        "http.get(\"/\")",
        "dns.lookup(\"a.example.com\", \"A\")",
        "mail.send(#{ from: \"a@b\", to: \"c@d\", subject: \"s\", text: \"t\" })",
    ] {
        let bench = Bench { drill: true, ..Bench::default() };
        let failed = bench.run(&sheet("out", &[], needs(), &format!("fn out() {{ {call}; }}"))).await.unwrap_err();
        assert_eq!(failed.class, FailureClass::Refused, "{call}");
        assert!(failed.message.contains("leaves the bubble"), "{failed}");
        assert!(bench.records.lock().unwrap().is_empty(), "nothing was even intended");
    }
}
