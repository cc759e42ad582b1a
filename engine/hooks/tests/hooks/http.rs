//! `http.*` against a real server: headers, redirects, sizes.

use crate::support::*;
use async_trait::async_trait;
use muster_hooks::{HookMachine, World};
use muster_ports::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// The world as it is, except for machines.
#[derive(Debug)]
struct RealHttp;

#[async_trait]
impl World for RealHttp {
    async fn exec(&self, _: &HookMachine, _: &GuestCommand) -> Result<GuestOutput> {
        Err(Failure::permanent("no guests here"))
    }
    async fn probe(&self, _: &Probe) -> Result<ProbeAnswer> {
        Err(Failure::permanent("no networks here"))
    }
}

type Seen = Arc<Mutex<Vec<String>>>;

/// One request a connection; answers by path, keeps what it was sent.
fn server() -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let kept = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
            let length = head.lines().find_map(|line| {
                line.to_lowercase().strip_prefix("content-length: ").map(|n| n.trim().parse().unwrap())
            });
            let mut body = vec![0; length.unwrap_or(0)];
            let _ = reader.read_exact(&mut body);
            let path = head.split_whitespace().nth(1).unwrap_or("/").to_owned();
            kept.lock().unwrap().push(format!("{head}{}", String::from_utf8_lossy(&body)));
            let (status, extra, body) = match path.as_str() {
                "/away" => ("302 Found", "Location: http://127.0.0.2:9/x\r\n", String::new()),
                "/near" => ("302 Found", "Location: /json\r\n", String::new()),
                "/json" => ("200 OK", "Content-Type: application/json\r\n", r#"{"a":[1,2]}"#.to_owned()),
                "/huge" => ("200 OK", "", "x".repeat(2 << 20)),
                _ => ("418 Teapot", "Set-Cookie: secret=1\r\n", "short".to_owned()),
            };
            let reply = format!(
                "HTTP/1.1 {status}\r\n{extra}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = reader.get_mut().write_all(reply.as_bytes());
        }
    });
    (origin, seen)
}

async fn run(origin: &str, text: &str) -> Result<serde_json::Value> {
    let hook = sheet("ring", &[], http_need(origin), text);
    Bench::default().run_with(&hook, &RealHttp, &Fuse::never()).await.map(|end| end.value)
}

#[tokio::test]
async fn writes_carry_their_key_and_their_type() {
    let (origin, seen) = server();
    let text = r#"
        let a = http.get("/json").json();
        http.put("/zone", #{ to: "10.0.0.1" });
        http.post("/text", "plain");
        let r = http.delete("/zone");
        [a.a[1], r.status, r.headers]
    "#;
    assert_eq!(run(&origin, text).await.unwrap(), serde_json::json!([2, 418, {"content-length": "5"}]));
    let seen: Vec<String> = seen.lock().unwrap().iter().map(|request| request.to_lowercase()).collect();
    assert!(seen[0].starts_with("get /json") && !seen[0].contains("idempotency-key"), "{seen:?}");
    assert!(
        seen[1].contains("idempotency-key: key1-1-") && seen[1].contains("content-type: application/json"),
        "{seen:?}"
    );
    assert!(seen[1].ends_with(r#"{"to":"10.0.0.1"}"#), "{seen:?}");
    assert!(seen[2].contains("idempotency-key: key1-2-") && seen[2].contains("content-type: text/plain"), "{seen:?}");
    assert!(seen[3].starts_with("delete /zone") && seen[3].contains("idempotency-key: key1-3-"), "{seen:?}");
}

#[tokio::test]
async fn redirects_stay_within_the_origin() {
    let (origin, _) = server();
    assert_eq!(run(&origin, r#"http.get("/near").json().a.len"#).await.unwrap(), 2);
    let failure = run(&origin, r#"http.get("/away")"#).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Refused);
    assert!(failure.message.contains("beyond the origin"), "{failure}");
}

#[tokio::test]
async fn a_long_reply_is_cut_and_says_so() {
    let (origin, _) = server();
    let value = run(&origin, r#"let r = http.get("/huge"); [r.body.len, r.cut]"#).await.unwrap();
    assert_eq!(value, serde_json::json!([1 << 19, true]));
}

#[tokio::test]
async fn nobody_there_is_transient() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let failure = run(&origin, r#"http.get("/")"#).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Transient, "{failure}");
    assert!(failure.message.contains(&origin) && failure.help.is_some(), "{failure}");
}
