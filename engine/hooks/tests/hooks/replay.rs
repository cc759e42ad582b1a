//! What a hook meets when it is run again after a crash, and the limits that are found before it starts.

use crate::support::*;
use muster_ports::FailureClass;
use std::sync::Arc;
use std::time::Duration;

/// Moments until the engine dies inside the second call: two writes for each announcement and each result of the first,
/// two for the announcement of the second, none for what it does.
const INSIDE_SECOND_CALL: i64 = 6;

fn swing(text: &str) -> muster_runsheet::HookSheet {
    sheet("swing", &[], http_need("https://dns.example.com"), text)
}

/// A bench on which the hook has died while its second call was on its way.
async fn died(text: &str) -> Bench {
    let bench = Bench::default();
    let fuse = Fuse::after(INSIDE_SECOND_CALL);
    let dying = Fake { effects: bench.world.effects.clone(), fuse: fuse.clone(), ..Fake::default() };
    bench.run_with(&swing(text), &dying, &fuse).await.unwrap_err();
    assert_eq!(bench.records.lock().unwrap().len(), 2, "one call is recorded, one is announced");
    bench
}

#[tokio::test]
async fn a_text_changed_between_crash_and_resume_does_nothing_more() {
    let text = "now(); http.put(\"/a\", \"new\"); http.put(\"/b\", \"new\");";
    let bench = died(text).await;
    let failure = bench.run(&swing(&text.replace("new", "other"))).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Diverged, "{failure}");
    assert!(failure.message.contains("E0712") && failure.message.contains("other arguments"), "{failure}");
    assert_eq!(bench.effects(), [], "neither its old call nor its new one was made");
    bench.run(&swing(text)).await.unwrap();
    assert_eq!(bench.effects().len(), 2, "the text of the record still goes on");
}

#[tokio::test]
async fn a_hook_that_depends_on_the_attempt_goes_another_way_and_is_stopped() {
    let text = "now(); if run.attempt == 1 { http.put(\"/a\", \"x\"); } else { http.delete(\"/a\"); }";
    let bench = Bench { attempt: 2, ..died(text).await };
    let failure = bench.run(&swing(text)).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Diverged, "{failure}");
    assert!(failure.message.contains("call 1 was `http.put`, now it asks `http.delete`"), "{failure}");
    assert_eq!(bench.effects(), []);
}

#[tokio::test]
async fn a_sleep_keeps_its_first_due_time_over_a_crash() {
    let nap = sheet("nap", &[], vec![], "sleep(\"1h\");");
    let mut bench = Bench { within: Duration::from_millis(200), ..Bench::default() };
    assert_eq!(bench.run(&nap).await.unwrap_err().class, FailureClass::Timeout);
    // The engine died right after the due time was recorded, and stays dead until long after it.
    {
        let mut records = bench.records.lock().unwrap();
        records.truncate(1);
        records[0].result = Some(1.into());
    }
    bench.within = Duration::from_secs(60);
    bench.run(&nap).await.unwrap();
    let records = bench.records.lock().unwrap();
    assert_eq!((records.len(), &records[0].result), (2, &Some(1.into())), "nothing was asked anew");
}

#[tokio::test]
async fn the_deadline_is_replayed_as_it_was() {
    let asking = sheet("asking", &[], vec![], "run.deadline() - now()");
    let bench = Bench::default();
    let first = bench.run(&asking).await.unwrap().value;
    let left = first.as_i64().unwrap();
    assert!((0..=60_000).contains(&left), "{left} ms are left of a minute");
    let later = Bench { within: Duration::from_secs(5), records: Arc::clone(&bench.records), ..Bench::default() };
    assert_eq!(later.run(&asking).await.unwrap().value, first);
}

#[tokio::test]
async fn limits_of_a_text_have_names_too() {
    let functions: String = (0..70).map(|n| format!("fn f{n}() {{ }}\n")).collect();
    let nested = format!("fn over() {{ {}1{} }}", "(1 + ".repeat(100), ")".repeat(100));
    let variables: String = (0..600).map(|n| format!("let v{n} = 1;\n")).collect();
    let map = "let m = #{}; for i in 0..20000 { m.set(`k${i}`, i); }";
    for (text, limit) in [
        (format!("{functions}fn over() {{ }}"), "64 functions"),
        (nested, "32 nested expressions"),
        (format!("fn over() {{ {variables} }}"), "512 variables"),
        (format!("fn over() {{ {map} }}"), "10000 properties"),
    ] {
        let end = Bench::default().run(&sheet("over", &[], vec![], &text)).await;
        let failure = end.expect_err(limit);
        assert_eq!(failure.class, FailureClass::Permanent, "{failure}");
        assert!(failure.message.contains(limit) && failure.message.contains("`over`"), "{limit}: {failure}");
    }
}

#[tokio::test]
async fn what_grows_by_assignment_is_held_too() {
    let many = "let a = []; for i in 0..9000 { a.push(i); }";
    for (text, limit) in [
        ("let m = #{}; for i in 0..20000 { m[`k${i}`] = i; }".to_owned(), "10000 properties"),
        ("let m = #{ inner: #{} }; for i in 0..20000 { m.inner[`k${i}`] = i; }".to_owned(), "10000 properties"),
        (format!("{many} let m = #{{}}; for i in 0..20000 {{ m[`k${{i}}`] = a; }}"), "10000 elements"),
        (format!("{many} let b = [0, 0, 0]; loop {{ for i in 0..3 {{ b[i] = a; }} }}"), "10000 elements"),
        (
            "let s = \"x\"; s.pad(100000, \"y\"); let m = #{}; for i in 0..100 { m[`k${i}`] = s; }".to_owned(),
            "bytes of text",
        ),
        (
            "fn add(k) { let i = k; for n in 0..20000 { this[`k${n}`] = i; } } fn over() { let m = #{}; m.add(1); }"
                .to_owned(),
            "10000 properties",
        ),
        (
            "let m = #{}; let add = |k| { m[k] = k; }; for i in 0..20000 { add.call(`k${i}`); } m.len()".to_owned(),
            "10000 properties",
        ),
    ] {
        let end = Bench::default().run(&sheet("over", &[], vec![], &text)).await;
        let failure = end.expect_err(&text);
        assert_eq!(failure.class, FailureClass::Permanent, "{failure}");
        assert!(failure.message.contains(limit) && failure.message.contains("`over`"), "{text}: {failure}");
    }
    let honest = "let m = #{}; for i in 0..5000 { m[`k${i}`] = [i]; } m.len()";
    let end = Bench::default().run(&sheet("honest", &[], vec![], honest)).await.unwrap();
    assert_eq!(end.value, 5000);
}
