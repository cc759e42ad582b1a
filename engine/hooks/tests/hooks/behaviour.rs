//! What hooks may rely on: replay, limits, the contract, the words they can use.

use crate::support::*;
use muster_hooks::check;
use muster_ports::{FailureClass, Probe};
use muster_runsheet::{Duration as Span, Need, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const DNS: &str = r#"
fn dns_swing(zone, to, ttl) {
    let old = http.get(`/zones/${zone}/a`).json();
    checkpoint("old", old);
    if old.address == to.to_string() { return; }
    let r = http.put(`/zones/${zone}/a`, #{ address: to.to_string(), ttl: ttl.seconds });
    if r.status == 503 { retry_later("dns is busy"); }
    if r.status >= 400 { throw fail(`dns said ${r.status}`); }
    http.post("/notify", `token ${random(1000000)}`);
    http.delete("/cache");
    log.info(`${zone} -> ${to}`);
}
fn dns_restore(zone, to, ttl) {
    let old = saved("old");
    http.put(`/zones/${zone}/a`, #{ address: old.address, ttl: old.ttl });
}
"#;

fn dns() -> muster_runsheet::HookSheet {
    sheet("dns_swing", &["zone", "to", "ttl"], http_need("https://dns.example.com"), DNS)
}

fn dns_bench() -> Bench {
    Bench::with(&[
        ("zone", Value::Text("shop".into())),
        ("to", Value::Ip("10.60.40.10".parse().unwrap())),
        ("ttl", Value::Duration(Span::from_secs(60))),
    ])
}

#[tokio::test]
async fn a_hook_killed_at_any_moment_has_the_effects_of_an_undisturbed_one() {
    let undisturbed = dns_bench();
    undisturbed.run(&dns()).await.unwrap();
    let moments = undisturbed.records.lock().unwrap().len() as i64 * 4 + 8;
    assert_eq!(undisturbed.effects().len(), 3);
    let (mut crashes, mut repeated) = (0, 0);
    for moment in 0..moments {
        let bench = dns_bench();
        let fuse = Fuse::after(moment);
        let dying = Fake { effects: bench.world.effects.clone(), fuse: fuse.clone(), ..Fake::default() };
        crashes += usize::from(bench.run_with(&dns(), &dying, &fuse).await.is_err());
        bench.run(&dns()).await.unwrap_or_else(|failure| panic!("resume after moment {moment}: {failure}"));
        repeated += usize::from(bench.effects().len() > 3);
        let mut by_key = BTreeMap::new();
        for (key, effect) in bench.effects() {
            let before = by_key.insert(key.clone(), effect.clone());
            assert!(before.is_none_or(|before| before == effect), "moment {moment}: key {key} for two things");
        }
        let keys: Vec<_> = by_key.keys().cloned().collect();
        let mut wanted: Vec<_> = undisturbed.effects().into_iter().map(|(key, _)| key).collect();
        wanted.sort();
        // The random token differs between runs, and with it the hash in its key; never within one run.
        let places = |keys: &[String]| -> Vec<String> {
            keys.iter().map(|key| key.rsplit_once('-').unwrap().0.to_owned()).collect()
        };
        assert_eq!(places(&keys), places(&wanted), "moment {moment}");
        assert_eq!(bench.records.lock().unwrap().len(), undisturbed.records.lock().unwrap().len(), "moment {moment}");
    }
    assert!(crashes >= 30, "{crashes} crash points");
    assert!(repeated >= 3, "{repeated} moments lie between an effect and its record");
}

#[tokio::test]
async fn an_edited_hook_stops_at_the_first_call_that_differs() {
    let bench = dns_bench();
    bench.run(&dns()).await.unwrap();
    for (from, to, what) in [
        ("/zones/${zone}/a", "/zone/${zone}/a", "other arguments"),
        ("http.delete(\"/cache\");", "", "now it asks `log.info`"),
        ("log.info(`${zone} -> ${to}`);", "", "now it ends before it"),
    ] {
        let edited =
            sheet("dns_swing", &["zone", "to", "ttl"], http_need("https://dns.example.com"), &DNS.replace(from, to));
        let failure = bench.run(&edited).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Diverged, "{failure}");
        assert!(failure.message.contains("E0712") && failure.message.contains(what), "{failure}");
    }
    assert_eq!(bench.effects().len(), 3, "a diverged hook does nothing more");
}

#[tokio::test]
async fn retry_later_asks_the_world_afresh_and_keeps_the_first_checkpoint() {
    let bench = dns_bench();
    *bench.world.statuses.lock().unwrap() = vec![200, 503];
    let failure = bench.run(&dns()).await.unwrap_err();
    assert_eq!((failure.class, failure.message.contains("dns is busy")), (FailureClass::Transient, true), "{failure}");
    let end = bench.run(&dns()).await.unwrap();
    assert_eq!(end.checkpoints["old"]["address"], "10.0.0.1");
    let puts: Vec<_> = bench.effects().into_iter().filter(|(_, what)| what.starts_with("PUT")).collect();
    assert_eq!(puts.len(), 2);
    assert_eq!(puts[0], puts[1], "the same write carries the same key in every attempt");
}

#[tokio::test]
async fn undo_reads_what_the_act_has_saved() {
    let mut bench = dns_bench();
    bench.run(&dns()).await.unwrap();
    bench.undo = true;
    bench.undoes = std::mem::take(&mut *bench.records.lock().unwrap());
    let restore = sheet("dns_restore", &["zone", "to", "ttl"], http_need("https://dns.example.com"), DNS);
    bench.run(&restore).await.unwrap();
    bench.run(&restore).await.unwrap();
    let last = bench.effects().pop().unwrap();
    assert!(last.1.contains(r#""address":"10.0.0.1""#), "{last:?}");
    assert_eq!(bench.effects().len(), 4, "a repeated undo is replayed");

    let nothing = Bench { undo: true, ..dns_bench() };
    let failure = nothing.run(&restore).await.unwrap_err();
    assert!(failure.message.contains("`old`, which was never set"), "{failure}");
}

#[tokio::test]
async fn every_limit_has_its_name() {
    let calls = "for i in 0..1000 { now(); }";
    for (text, limit) in [
        ("let n = 0; loop { n += 1; }", "2000000 operations"),
        ("let s = \"x\"; loop { s += s; }", "1048576 bytes of text"),
        ("let a = []; loop { a.push(1); }", "10000 elements"),
        (calls, "500 host calls"),
        (
            "for i in 0..10 { checkpoint(`${i}`, \"0123456789abcdef\".to_upper()); let t = \"x\"; t.pad(1000000, \"y\"); checkpoint(`b${i}`, t); }",
            "4194304 bytes in the journal",
        ),
    ] {
        let failure = Bench::default().run(&sheet("over", &[], vec![], text)).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Permanent, "{failure}");
        assert!(failure.message.contains(limit) && failure.message.contains("hook `over`"), "{text}: {failure}");
        assert!(failure.help.is_some());
    }
    let deep = sheet("deep", &[], vec![], "fn down(n) { down(n + 1) }\nfn deep() { down(0) }");
    let failure = Bench::default().run(&deep).await.unwrap_err();
    assert!(failure.message.contains("32 nested calls"), "{failure}");
}

#[tokio::test]
async fn limits_cannot_be_caught_by_the_script() {
    let text = "try { for i in 0..1000 { now(); } } catch (e) { }";
    let failure = Bench::default().run(&sheet("sly", &[], vec![], text)).await.unwrap_err();
    assert!(failure.message.contains("500 host calls"), "{failure}");
}

#[tokio::test]
async fn time_and_cancel_end_loops_and_calls() {
    let mut bench = Bench { within: Duration::from_millis(200), ..Bench::default() };
    for text in ["sleep(60);", "for i in 0..100000 { let s = \"a\"; s.pad(100000, \"b\"); }"] {
        let failure = bench.run(&sheet("slow", &[], vec![], text)).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Timeout, "{text}: {failure}");
        assert!(failure.message.contains("limit `within`"), "{failure}");
        bench.records = Arc::default();
    }
    let bench = Bench { world: Fake { slow: Duration::from_secs(60), ..Fake::default() }, ..Bench::default() };
    let cancel = bench.cancel.clone();
    let stuck = sheet("stuck", &[], http_need("https://a.example.com"), "http.get(\"/\")");
    let (end, ()) = tokio::join!(bench.run(&stuck), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cancel.cancel();
    });
    assert!(end.unwrap_err().message.contains("was cancelled"));
}

#[tokio::test]
async fn what_is_not_declared_is_refused_by_name() {
    let origin = || http_need("https://dns.example.com");
    for (needs, text, said) in [
        (vec![], "http.get(\"/\")", "`http.get` without declaring it"),
        (vec![Need::Bubble], "m.exec(\"ls\")", "`exec` without declaring it"),
        (vec![Need::Guest], "net.tcp(m.ip, 80)", "`net.tcp` without declaring it"),
        (
            origin(),
            "http.get(\"https://evil.example.com/\")",
            "`https://evil.example.com:443` is not an origin of this hook",
        ),
        (origin(), "http.get(\"http://dns.example.com/\")", "`http://dns.example.com:80` is not an origin"),
        (origin(), "http.get(\"@evil.example.com/\")", "neither a path"),
        (origin(), "http.get(\"https://dns.example.com@evil.example.com/\")", "neither a path"),
        (vec![], "secret(\"dns-token\")", "the contract does not name the secret `dns-token`"),
    ] {
        let bench = Bench::with(&[("m", Value::Machine("db".into()))]);
        let failure = bench.run(&sheet("sneaky", &["m"], needs, text)).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Permanent, "{failure}");
        assert!(failure.message.contains(said), "{text}: {failure}");
        assert!(bench.effects().is_empty());
    }
    let mut probe = sheet("look", &[], origin(), "http.put(\"/\", 1); true");
    probe.probe = true;
    assert!(Bench::default().run(&probe).await.unwrap_err().message.contains("a probe may only read"));
}

#[tokio::test]
async fn machines_networks_and_facts_are_there() {
    let text = r#"
        let r = m.exec("psql -c 'select 1' \"a b\"", #{ stdin: "in", within: 5 });
        m.exec(["ls", "-l"]);
        m.put("/etc/a", "text");
        let open = net.tcp(m.ip, 5432);
        let page = net.http(`http://${m.ip}:8080/ready?x=1`);
        if group.machines[0].name != m.name || m.source_ip != "10.10.0.5" { fail("names"); }
        if run.op != "test" || !run.is_drill || run.stage != "db" || wait.seconds != 90 { fail("facts"); }
        #{ code: r.code, out: r.out, open: open, body: page.body, wait: wait, list: list.len }
    "#;
    let bench = Bench::with(&[
        ("m", Value::Machine("db".into())),
        ("group", Value::Group("dbs".into())),
        ("wait", Value::Duration(Span::from_secs(90))),
        ("list", Value::List(vec![Value::Int(1), Value::Int(2)])),
    ]);
    let hook = sheet("facts", &["m", "group", "wait", "list"], vec![Need::Guest, Need::Bubble], text);
    // `/etc/a` cannot be written: the fake guest answers 3.
    let failure = bench.run(&hook).await.unwrap_err();
    assert!(failure.message.contains("file `/etc/a` in machine `db`: exit code 3"), "{failure}");
    let hook =
        sheet("facts", &["m", "group", "wait", "list"], hook.needs, &text.replace("m.put(\"/etc/a\", \"text\");", ""));
    let bench = Bench { records: Arc::default(), drill: true, ..bench };
    let end = bench.run(&hook).await.unwrap();
    assert_eq!(
        end.value,
        serde_json::json!({"code": 3, "out": "on db~r1", "open": true, "body": "ready", "wait": "1m30s", "list": 2})
    );
    let execs = bench.world.execs.lock().unwrap();
    assert_eq!(execs[0].arguments, ["-c", "select 1", "a b"]);
    assert_eq!((execs[0].stdin.as_deref(), execs[0].within), (Some("in"), Duration::from_secs(5)));
    let probes = bench.world.probes.lock().unwrap();
    assert!(matches!(&probes[1], Probe::Http { port: 8080, path, .. } if path == "/ready?x=1"), "{probes:?}");
}

#[tokio::test]
async fn skip_throw_and_logs() {
    let bench = Bench::default();
    let end = bench.run(&sheet("maybe", &[], vec![], "log.warn(\"odd\"); skip(\"not here\")")).await.unwrap();
    assert_eq!(end.skipped.as_deref(), Some("not here"));
    assert_eq!(*bench.notes.lock().unwrap(), ["warning from hook maybe: odd"]);
    let failure =
        Bench::default().run(&sheet("bad", &[], vec![], "let a = 1;\nthrow \"no socks\";")).await.unwrap_err();
    assert!(failure.message.contains("no socks") && failure.message.contains("line 2"), "{failure}");
    let failure =
        Bench::default().run(&sheet("typo", &[], vec![], "let a = #{status: 1}; a.statsu")).await.unwrap_err();
    assert!(failure.message.contains("statsu"), "{failure}");
}

#[test]
fn check_finds_what_is_wrong_before_a_run_does() {
    assert_eq!(check(&dns()), []);
    for (text, line, said) in [
        ("fn f(a) {\n  let x = ;\n}", 2, ""),
        ("fn f(a) {\n  b + 1\n}", 2, "b"),
        ("fn f(a) {\n eval(\"1\")\n}", 2, "eval"),
        ("fn g(a) { }", 1, "fn f(a)"),
        ("fn f() { }", 1, "takes 0 parameters"),
        ("fn f(a) {\n import \"x\" as y; \n}", 2, "import"),
    ] {
        let problems = check(&sheet("f", &["a"], vec![], text));
        assert_eq!(problems.len(), 1, "{text}");
        assert_eq!(problems[0].line, line, "{problems:?}");
        assert!(problems[0].message.contains(said), "{problems:?}");
    }
}
