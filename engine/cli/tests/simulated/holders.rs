//! Who holds the vault: one at a time, named to whoever else wants it, fenced when pushed aside, replaced when dead.

use crate::shop::{Shop, said};

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
    said(shop.elsewhere(&["replicate", "--once", "--steal"]), &["replicate", "--once", "--steal"]).ends(0);
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
