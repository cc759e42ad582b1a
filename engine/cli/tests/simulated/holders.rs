//! Who holds the vault: one at a time, named to whoever else wants it, fenced when pushed aside, replaced when dead.

use crate::shop::{Shop, said};
use muster_demo::estate::{Estate, HOME};

#[test]
fn a_second_holder_is_refused_and_the_first_goes_on() {
    let shop = Shop::protected();
    let mut first = shop.replicating();
    let refused = said(shop.elsewhere(&["replicate", "--once"]), &["replicate", "--once"]);
    let process = first.process().to_string();
    refused.ends(5).says(&["replicate", &process, "hint: "]);
    // Looking disturbs nobody, and says who holds it.
    let looked = said(shop.elsewhere(&["status", "--json"]), &["status"]).ends(0).data();
    assert!(looked["holder"].as_str().unwrap().contains(&process), "{looked}");
    let points = shop.points();
    // Through the socket the first one does the work of a second command.
    shop.type_in(&["replicate", "--once"]).ends(0);
    assert!(shop.points() > points);
    // A second `replicate` stands by, and takes over when the first one is gone.
    let second = shop.stays(shop.command(&["replicate"]));
    shop.wait_until("the second stands by", || second.log().contains("takes over when it ends"));
    assert!(first.is_running(), "{}", first.log());
    first.kill();
    shop.wait_until("the second takes over", || second.log().contains("replicating 2 groups"));
    shop.assert_nothing_lost();
}

#[test]
fn steal_fences_the_first_which_says_so() {
    let shop = Shop::protected();
    let mut first = shop.replicating();
    let words = ["replicate", "--once", "--steal", "--why", "it is wrong"];
    said(shop.elsewhere(&words), &words).ends(0).says(&["taken over from", "`replicate`"]);
    // The first one finds out at its next cycle, ten seconds away at most.
    assert_eq!(first.ended(), Some(5), "{}", first.log());
    let log = first.log();
    assert!(log.contains("error: another muster has taken over"), "{log}");
    assert!(!log.contains("panicked") && !log.contains("could not be given back"), "{log}");
    shop.assert_nothing_lost();
}

#[test]
fn the_lease_of_a_killed_holder_binds_nobody() {
    let shop = Shop::protected();
    let mut first = shop.replicating();
    first.kill();
    let began = std::time::Instant::now();
    shop.type_in(&["replicate", "--once"]).ends(0);
    let took = began.elapsed();
    assert!(took.as_secs() < 10, "a dead process of this host kept the vault for {took:?}");
    shop.assert_nothing_lost();
}

#[test]
fn commands_typed_at_the_same_moment_do_not_fence_each_other() {
    let shop = Shop::protected();
    let points = shop.points();
    let ended: Vec<_> = std::thread::scope(|scope| {
        let typed: Vec<_> = (0..4).map(|_| scope.spawn(|| shop.type_in(&["replicate", "--once"]))).collect();
        typed.into_iter().map(|typed| typed.join().unwrap()).collect()
    });
    for said in ended {
        said.ends(0);
    }
    assert!(shop.points() > points);
    shop.assert_nothing_lost();
}

/// `--until-protected` asks whoever holds the vault to replicate, and goes on in its place when it is gone.
#[test]
fn until_protected_waits_for_points_and_not_for_a_holder() {
    let mut shop = Shop::new();
    shop.type_in(&["vault", "init"]).ends(0);
    shop.type_in(&["replicate", "--until-protected"]).ends(1).says(&["no group is protected", "muster protect"]);
    shop.type_in(&["protect"]).ends(0);
    // Nothing can be replicated yet: the source's agent is away.
    shop.estate.kill(HOME).unwrap();
    let mut first = shop.replicating();
    let mut waits = shop.stays(shop.command(&["replicate", "--until-protected"]));
    let process = first.process().to_string();
    shop.wait_until("it says who replicates", || {
        let log = waits.log();
        log.contains("replicating 2 groups by `replicate`") && log.contains(&process)
    });
    shop.wait_until("it says what is in the way", || {
        let log = waits.log();
        log.lines().any(|line| line.starts_with("orders: ") && line.contains("site `hq` does not answer"))
    });
    assert!(waits.is_running(), "{}", waits.log());
    first.kill();
    shop.wait_until("it goes on in its place", || waits.log().matches("replicating 2 groups").count() == 2);
    shop.estate.start(HOME).unwrap();
    assert_eq!(waits.ended(), Some(0), "{}", waits.log());
    let status = shop.json(&["status"]);
    assert!(status["groups"].as_array().unwrap().iter().all(|group| group["newest"].is_object()), "{status}");
    assert!(status["holder"].is_null(), "it has let go of the vault: {status}");
    // Protected already: it ends at once, and makes no point of its own.
    let points = shop.points();
    shop.type_in(&["replicate", "--until-protected"]).ends(0);
    assert!(shop.points() <= points + 2, "at most the cycle that was due");
}

/// The plain loop makes a point of each group every cycle, and neither more nor fewer.
#[test]
fn replicate_keeps_the_clock_of_the_policy() {
    const CYCLE: u64 = 10_000;
    let shop = Shop::protected();
    let replication = shop.replicating();
    let times = |group: &str| {
        let answer = shop.json(&["points", group]);
        let mut times: Vec<u64> =
            answer["points"].as_array().unwrap().iter().map(|point| point["at"].as_u64().unwrap()).collect();
        times.sort_unstable();
        times
    };
    shop.wait_until("three cycles more", || times("orders").len() >= 4 && times("front").len() >= 4);
    drop(replication);
    for group in ["orders", "front"] {
        let times = times(group);
        // The first gap begins before this process and is as long as the commands between them took.
        for gap in times.windows(2).skip(1).map(|pair| pair[1] - pair[0]) {
            assert!(gap > CYCLE / 2, "{group}: points {gap} ms apart: {times:?}");
            assert!(gap < CYCLE * 2, "{group}: points {gap} ms apart: {times:?}");
        }
    }
    shop.assert_nothing_lost();
}
