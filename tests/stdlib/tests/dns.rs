//! `std/dns` against real name servers: BIND for dynamic updates, PowerDNS for the HTTP API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests and their helpers

use muster_library::Bench;
use muster_library::servers::{Server, free_port, start, tool, until};
use muster_ports::FailureClass;
use muster_runsheet::Kind;
use std::path::Path;

const ZONE: &str = "$TTL 300\n\
    @ IN SOA ns.example.com. ops.example.com. 1 3600 600 86400 60\n\
    @ IN NS ns.example.com.\n\
    ns IN A 127.0.0.1\n\
    www 300 IN A 10.10.20.11\n\
    www 300 IN A 10.10.20.12\n\
    shop 300 IN CNAME www\n";

/// BIND with the zone `example.com`, and the key that may change it, as the keyring holds it.
async fn name_server(folder: &Path, port: u16) -> (Server, String) {
    let printed = tool("tsig-keygen", &["-a", "hmac-sha256", "muster"]);
    let secret = printed.split('"').nth(3).unwrap().to_owned();
    std::fs::write(folder.join("example.zone"), ZONE).unwrap();
    let shown = folder.display();
    let text = format!(
        "{printed}\noptions {{ directory \"{shown}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; \
         pid-file none; session-keyfile \"{shown}/session.key\"; recursion no; dnssec-validation no; \
         managed-keys-directory \"{shown}\"; }};\ncontrols {{ }};\n\
         zone \"example.com\" {{ type primary; file \"example.zone\"; allow-update {{ key muster; }}; }};\n"
    );
    std::fs::write(folder.join("named.conf"), text).unwrap();
    let configuration = folder.join("named.conf");
    let server = start("named", &["-g", "-c", configuration.to_str().unwrap()], &folder.join("named.log"));
    until("the name server answers", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    (server, format!("hmac-sha256:muster:{secret}"))
}

fn dig(port: u16, name: &str, kind: &str) -> Vec<String> {
    let answer = tool("dig", &["@127.0.0.1", "-p", &port.to_string(), "+short", "+tries=1", name, kind]);
    let mut lines: Vec<String> = answer.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn plan(port: u16) -> String {
    format!(
        r#"edition 2026
use ./sites {{ dr, hq, key, steady }}
use std/dns {{ dns-alias, dns-leads, dns-point }}

group all {{
  policy   = steady
  machines = [one]
}}

plan trial {{
  move = hq -> dr

  stage all {{
    start one

    when live {{
      run   dns-point(server = "127.0.0.1:{port}", key = key, zone = "example.com", name = "www.example.com", to = 10.10.20.11, ttl = 30s)
      run   dns-point(server = "127.0.0.1:{port}", key = key, zone = "example.com", name = "new.example.com", to = fd00::5) as six
      run   dns-alias(server = "127.0.0.1:{port}", key = key, zone = "example.com", name = "shop.example.com", to = "New.example.com.")
      check one dns-leads(server = "127.0.0.1:{port}", name = "www.example.com", to = 10.10.20.11) as leads
    }}
  }}
}}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_pointed_and_put_back_on_a_real_name_server() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let (_server, key) = name_server(folder.path(), port).await;
    let bench = Bench::new(&plan(port), Kind::Unplanned).unwrap().with_secret("dr/key", &key);
    assert_eq!(dig(port, "www.example.com", "A"), ["10.10.20.11", "10.10.20.12"]);
    assert_eq!(bench.run("all.leads/one").await.unwrap().value, false);

    // The plan names the address at home; the route has made it that of the other site.
    bench.run("all.dns-point").await.unwrap();
    assert_eq!(dig(port, "www.example.com", "A"), ["10.60.20.11"]);
    let answer = tool("dig", &["@127.0.0.1", "-p", &port.to_string(), "+noall", "+answer", "www.example.com", "A"]);
    assert!(answer.contains("\t30\tIN\tA"), "{answer}");
    assert_eq!(bench.run("all.leads/one").await.unwrap().value, true);

    // Done already: nothing changes, and the undo of the first run still knows what was before.
    let serial = dig(port, "example.com", "SOA");
    let again = Bench::new(&plan(port), Kind::Unplanned).unwrap().with_secret("dr/key", &key);
    again.run("all.dns-point").await.unwrap();
    assert_eq!(dig(port, "example.com", "SOA"), serial);
    bench.undo("all.dns-point").await.unwrap();
    assert_eq!(dig(port, "www.example.com", "A"), ["10.10.20.11", "10.10.20.12"]);

    // A name that was not there before is gone after the undo.
    bench.run("all.six").await.unwrap();
    assert_eq!(dig(port, "new.example.com", "AAAA"), ["fd00::5"]);
    bench.undo("all.six").await.unwrap();
    assert_eq!(dig(port, "new.example.com", "AAAA"), Vec::<String>::new());

    bench.run("all.dns-alias").await.unwrap();
    assert_eq!(dig(port, "shop.example.com", "CNAME"), ["new.example.com."]);
    bench.undo("all.dns-alias").await.unwrap();
    assert_eq!(dig(port, "shop.example.com", "CNAME"), ["www.example.com."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_that_does_not_agree_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let (server, key) = name_server(folder.path(), port).await;
    let failure = |key: String| async move {
        let bench = Bench::new(&plan(port), Kind::Unplanned).unwrap().with_secret("dr/key", &key);
        let failure = bench.run("all.dns-point").await.unwrap_err();
        assert!(!failure.message.contains(&key), "a secret in {failure}");
        (failure.class, failure.message)
    };
    let (class, message) = failure("hmac-sha256:muster:d3Jvbmcgc2VjcmV0IG9mIHRoZSByaWdodCBsZW5ndGg=".into()).await;
    assert_eq!(class, FailureClass::Refused);
    assert!(message.contains("BADSIG"), "{message}");
    let (class, message) = failure(key.replace("muster", "stranger")).await;
    assert_eq!(class, FailureClass::Refused);
    assert!(message.contains("BADKEY"), "{message}");
    assert_eq!(dig(port, "www.example.com", "A"), ["10.10.20.11", "10.10.20.12"]);
    drop(server);
    let (class, message) = failure(key).await;
    assert_eq!(class, FailureClass::Transient, "{message}");
}

/// PowerDNS with the zone `example.com` and its API.
async fn power_dns(folder: &Path, api: u16) -> Server {
    let database = folder.join("pdns.sqlite3");
    let schema = std::fs::read_to_string("/usr/share/doc/pdns-backend-sqlite3/schema.sqlite3.sql")
        .expect("the schema of pdns-backend-sqlite3; `cargo verify` installs tests/stdlib/packages.txt");
    let rows = "insert into domains (id, name, type) values (1, 'example.com', 'NATIVE'); \
        insert into records (domain_id, name, type, content, ttl) values \
        (1, 'example.com', 'SOA', 'ns.example.com ops.example.com 1 3600 600 86400 60', 300), \
        (1, 'www.example.com', 'A', '10.10.20.11', 300);";
    tool("sqlite3", &[database.to_str().unwrap(), &format!("{schema}\n{rows}")]);
    let arguments = [
        "--config-dir=/nonexistent".to_owned(),
        "--launch=gsqlite3".to_owned(),
        format!("--gsqlite3-database={}", database.display()),
        format!("--socket-dir={}", folder.display()),
        "--local-address=127.0.0.1".to_owned(),
        format!("--local-port={}", free_port()),
        "--api=yes".to_owned(),
        "--api-key=s3cr3t-t0k3n".to_owned(),
        "--webserver=yes".to_owned(),
        "--webserver-address=127.0.0.1".to_owned(),
        format!("--webserver-port={api}"),
        "--daemon=no".to_owned(),
        "--guardian=no".to_owned(),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = start("pdns_server", &arguments, &folder.join("pdns.log"));
    until("the API answers", || std::net::TcpStream::connect(("127.0.0.1", api)).is_ok()).await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_pointed_and_put_back_through_the_api_of_powerdns() {
    let folder = tempfile::tempdir().unwrap();
    let api = free_port();
    let _server = power_dns(folder.path(), api).await;
    let step = |name: &str| {
        format!(
            "run dns-point-http(api = \"http://127.0.0.1:{api}\", token = token, zone = \"example.com\", \
             name = \"{name}.example.com\", to = 10.10.20.11) as {name}"
        )
    };
    let plan = plan(1)
        .replace("dns-alias, dns-leads, dns-point", "dns-point-http")
        .replace("hq, key, steady", "hq, steady, token");
    let (head, _) = plan.split_once("    when live {").unwrap();
    let plan = format!("{head}    when live {{\n{}\n{}\n    }}\n  }}\n}}\n", step("www"), step("new"));
    let bench = Bench::new(&plan, Kind::Planned).unwrap().with_secret("dr/token", "s3cr3t-t0k3n");
    let zone = || {
        tool(
            "curl",
            &[
                "-s",
                "-H",
                "X-API-Key: s3cr3t-t0k3n",
                &format!("http://127.0.0.1:{api}/api/v1/servers/localhost/zones/example.com"),
            ],
        )
    };
    for step in ["all.www", "all.new"] {
        bench.run(step).await.unwrap_or_else(|failure| panic!("{step}: {failure}"));
    }
    assert_eq!(zone().matches("10.60.20.11").count(), 2, "{}", zone());
    for step in ["all.www", "all.new"] {
        bench.undo(step).await.unwrap();
    }
    assert!(zone().contains("10.10.20.11") && !zone().contains("10.60.20.11"), "{}", zone());
    assert!(!zone().contains("new.example.com"), "{}", zone());
    let wrong = Bench::new(&plan, Kind::Planned).unwrap().with_secret("dr/token", "guessed-token");
    let failure = wrong.run("all.www").await.unwrap_err();
    assert!(failure.message.contains("401") && !failure.message.contains("guessed"), "{failure}");
}
