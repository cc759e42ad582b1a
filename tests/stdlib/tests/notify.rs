//! `std/notify` against a receiver of webhooks and a mail server, both of this test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests and their helpers

use muster_library::Bench;
use muster_library::servers::{mail_sink, webhook};
use muster_ports::FailureClass;
use muster_runsheet::Kind;

fn plan(http: u16, mail: u16) -> String {
    format!(
        r#"edition 2026
use ./sites {{ dr, hq, password, steady, token }}
use std/notify {{ notify-chat, notify-mail, notify-mail-login, notify-open-webhook, notify-webhook }}

group all {{
  policy   = steady
  machines = [one]
}}

plan trial {{
  move = hq -> dr

  stage all {{
    start one

    when live {{
      run notify-webhook(origin = "http://127.0.0.1:{http}", path = "/hooks/dr", token = token, message = "{{plan}} is at {{target}}")
      run notify-open-webhook(origin = "http://127.0.0.1:{http}", path = "/open", message = "at {{target}}")
      run notify-chat(origin = "http://127.0.0.1:{http}", path = token, message = "at {{target}}")
      run notify-mail(server = "127.0.0.1:{mail}", from = "dr@example.com", to = ["ops@example.com", "boss@example.com"], subject = "läuft", message = ".at {{target}}", tls = "none")
      run notify-mail(server = "127.0.0.1:{mail}", from = "dr@example.com", to = ["a@elsewhere.org"], subject = "s", message = "m", tls = "none") as refused
      run notify-mail(server = "127.0.0.1:{mail}", from = "dr@example.com", to = ["ops@example.com"], subject = "s", message = "m") as open
      run notify-mail-login(server = "127.0.0.1:{mail}", user = "dr", password = password, from = "dr@example.com", to = ["ops@example.com"], subject = "s", message = "m", tls = "none") as login
    }}
  }}
}}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_and_chats_get_the_facts_of_the_run() {
    let (port, received) = webhook(&[200]);
    let bench = Bench::new(&plan(port, 1), Kind::Planned).unwrap().with_secret("dr/token", "/services/T0/B0/x9x9");
    for step in ["all.notify-webhook", "all.notify-open-webhook", "all.notify-chat"] {
        bench.run(step).await.unwrap_or_else(|failure| panic!("{step}: {failure}"));
    }
    let received = received.lock().unwrap();
    assert!(received[0].starts_with("POST /hooks/dr HTTP/1.1\r\n"), "{}", received[0]);
    let head = received[0].to_ascii_lowercase();
    assert!(head.contains("authorization: bearer /services/t0/b0/x9x9\r\n"), "{head}");
    assert!(head.contains("idempotency-key: bench-key-"), "{head}");
    let body: serde_json::Value = serde_json::from_str(received[0].split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "run": "run-1", "plan": "trial", "operation": "planned", "stage": "all", "source": "hq", "target": "dr",
            "text": "trial is at dr"
        })
    );
    assert!(!received[1].to_ascii_lowercase().contains("authorization"), "{}", received[1]);
    assert!(received[2].starts_with("POST /services/T0/B0/x9x9 "), "{}", received[2]);
    assert!(received[2].ends_with(r#"{"text":"[trial planned] at dr"}"#), "{}", received[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_busy_is_tried_later_and_one_that_refuses_is_not() {
    let (port, _received) = webhook(&[503, 429, 404]);
    let bench = Bench::new(&plan(port, 1), Kind::Planned).unwrap();
    let mut classes = Vec::new();
    for _ in 0..3 {
        classes.push(bench.run("all.notify-open-webhook").await.unwrap_err().class);
    }
    assert_eq!(classes, [FailureClass::Transient, FailureClass::Transient, FailureClass::Permanent]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_handed_over_whole() {
    let (port, received) = mail_sink("elsewhere.org", 550);
    let bench = Bench::new(&plan(1, port), Kind::Planned).unwrap().with_secret("dr/password", "hunter22");
    bench.run("all.notify-mail").await.unwrap();
    let talk = received.lock().unwrap()[0].clone();
    assert!(talk.starts_with("EHLO example.com\r\nMAIL FROM:<dr@example.com>\r\n"), "{talk}");
    assert!(talk.contains("RCPT TO:<ops@example.com>\r\nRCPT TO:<boss@example.com>\r\nDATA\r\n"), "{talk}");
    assert!(talk.contains("Subject: =?utf-8?B?bMOkdWZ0?=\r\n"), "{talk}");
    assert!(talk.contains("\r\n\r\n.at dr\r\n"), "the dot at the start of a line is kept: {talk}");
    assert!(talk.contains("plan trial, planned, hq -> dr, run run-1"), "{talk}");

    let refused = bench.run("all.refused").await.unwrap_err();
    assert_eq!(refused.class, FailureClass::Refused);
    assert!(refused.message.contains("answered 550 to RCPT: not here"), "{refused}");
    let open = bench.run("all.open").await.unwrap_err();
    assert!(open.message.contains("offers no STARTTLS"), "{open}");
    let login = bench.run("all.login").await.unwrap_err();
    assert!(login.message.contains("not sent without TLS"), "{login}");
    assert_eq!(received.lock().unwrap().len(), 1, "nothing but the first mail was taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_asks_for_patience_gets_it() {
    let (port, _received) = mail_sink("elsewhere.org", 451);
    let bench = Bench::new(&plan(1, port), Kind::Planned).unwrap();
    assert_eq!(bench.run("all.refused").await.unwrap_err().class, FailureClass::Transient);
}
