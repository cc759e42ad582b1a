//! Differences of two sheets, and drift of sites.

#![allow(clippy::unwrap_used, clippy::panic)] // tests

mod common;

use common::{SEED, inventory, sheet, shop, shop_with};
use muster_forecast::{Drift, diff, drift};
use muster_runsheet::*;

#[test]
fn equal_sheets_differ_in_nothing() {
    let checked = shop();
    let sheet = sheet(&checked, Kind::Planned, Direction::Out);
    let found = diff(&sheet, &sheet, SEED);
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(found.table(), "");
}

#[test]
fn what_a_change_of_a_plan_does_is_said_by_step() {
    let before = sheet(&shop(), Kind::Unplanned, Direction::Out);
    let checked = shop_with(|text| {
        text.replace("rto  = 15m", "rto  = 20m")
            .replace("together = true\n", "")
            .replace("    check db tcp(7000) within 2m\n", "")
            .replace("start web within 5m", "start web within 6m usually 2m")
            .replace("stage front-door after application", "stage front-door after database")
            .replace("stage doors after front-door {", "stage doors after front-door, application {\n    wait 1m")
            .replace("log.info(`${app.name} now reads from ${host}`);", "log.info(`done`);")
    });
    let after = sheet(&checked, Kind::Unplanned, Direction::Out);
    let found = diff(&before, &after, SEED);
    insta::assert_snapshot!("diff", found.table());
    let back = diff(&after, &before, SEED);
    assert_eq!((back.added.len(), back.removed.len()), (found.removed.len(), found.added.len()));
    assert!(back.unprotected.is_empty(), "{:?}", back.unprotected);
}

#[test]
fn a_machine_that_left_the_plan_is_no_longer_protected() {
    let before = sheet(&shop(), Kind::Planned, Direction::Out);
    let checked = shop_with(|text| {
        let from = text.find("    start web").unwrap();
        let to = text.find("  stage doors").unwrap();
        let text = format!("{}    wait 1s\n  }}\n\n{}", &text[..from], &text[to..]);
        text.replace("group front {\n  policy   = gold\n  machines = [web]\n}\n", "")
    });
    let after = sheet(&checked, Kind::Planned, Direction::Out);
    let found = diff(&before, &after, SEED);
    let lost: Vec<String> = found.unprotected.iter().map(|change| change.what.clone()).collect();
    assert_eq!(lost, ["machine web", "group front", "check", "check"]);
}

#[test]
fn sites_that_are_as_the_plans_have_them_do_not_drift() {
    let mut now = inventory();
    now.sites.insert("dr".into(), now.sites["hq"].clone());
    // A failover has landed machines of the same names at the other site; they may be off.
    now.sites.get_mut(&SiteName::new("dr")).unwrap().machines.iter_mut().for_each(|machine| machine.power = Power::Off);
    assert_eq!(drift(&shop().estate, &inventory(), &now), []);
    // The site has a name of its own for one of them.
    let mut estate = (*shop().estate).clone();
    estate.machines.get_mut(&MachineName::new("db")).unwrap().known_as = Some("SQL PROD (01)".into());
    let (mut before, mut called) = (inventory(), now.clone());
    for known in [&mut before, &mut called] {
        known.sites.get_mut(&SiteName::new("hq")).unwrap().machines[0].name = "SQL PROD (01)".into();
    }
    assert_eq!(drift(&estate, &before, &called), []);
    let gone = drift(&estate, &before, &now);
    assert_eq!(gone.iter().map(Drift::words).collect::<Vec<_>>(), ["db is gone from hq"]);
}

#[test]
fn every_kind_of_drift_is_named() {
    let mut now = inventory();
    let hq = now.sites.get_mut(&SiteName::new("hq")).unwrap();
    let mut new = hq.machines[0].clone();
    new.name = "reports".into();
    hq.machines[0].disks[1].size_bytes = 2 << 30;
    hq.machines[0].disks.push(DiskFacts { name: "logs".into(), size_bytes: 1 << 30 });
    hq.machines[1].nics[0].ip = Some("10.10.20.99".parse().unwrap());
    hq.machines[1].guest_agent = false;
    hq.machines[1].cpus = 4;
    hq.machines.remove(2);
    hq.machines.push(new);
    hq.capabilities.bubbles = true;
    let found = drift(&shop().estate, &inventory(), &now);
    insta::assert_snapshot!("drift", found.iter().map(Drift::words).collect::<Vec<_>>().join("\n"));
}
