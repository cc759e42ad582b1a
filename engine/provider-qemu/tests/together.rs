//! Two machines cut as one, and the disaster that takes both.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is wrong")]

mod common;

use common::{DATABASE_IP, on_a_site, order};
use muster_lab::{Machine, Role, check_shop};
use muster_ports::*;
use std::net::IpAddr;
use std::time::Duration;

const APP_IP: &str = "10.10.20.12";

#[test]
fn the_app_never_holds_what_its_database_lacks() {
    on_a_site("together", async |mut bench| {
        let images = bench.lab.images().clone();
        let app = Machine::new("app", Role::App, "prod", "52:54:00:10:00:12", APP_IP).follows("10.10.20.99");
        bench.lab.site("hq").unwrap().machine(&images, &app.interval_ms(20)).unwrap();
        let (db, app) = (InstanceName::new("db"), InstanceName::new("app"));
        bench.provider.start(&db).await.unwrap();
        bench.provider.start(&app).await.unwrap();
        bench.database_up(&NetworkScope::Live).await;
        bench.agent_up(&db).await;
        bench.agent_up(&app).await;
        // As a plan's hook does it after a landing.
        let command = GuestCommand {
            program: "/bin/set-db-host".to_owned(),
            arguments: vec![DATABASE_IP.to_owned()],
            stdin: None,
            within: Duration::from_secs(30),
        };
        assert_eq!(bench.provider.guest_exec(&app, &command).await.unwrap().code, 0);
        let ip: IpAddr = APP_IP.parse().unwrap();
        let ready = Probe::Http { ip, port: 8080, path: "/ready".to_owned(), within: Duration::from_secs(10) };
        bench.until("the app is ready", async || bench.provider.probe(&NetworkScope::Live, &ready).await.is_ok()).await;

        let work = tempfile::tempdir().unwrap();
        let (data, root) = (work.path().join("data"), work.path().join("root"));
        let mut base = None;
        for (barrier, consistency) in
            [("b1", Consistency::App), ("b2", Consistency::Crash), ("b3", Consistency::Crash), ("b4", Consistency::App)]
        {
            let mut order = order(barrier, base, consistency);
            let mut second = order.members[0].clone();
            (second.instance, second.machine) = (app.clone(), MachineName::new("app"));
            order.members.push(second);
            // Work goes on over the moment of the cut.
            let (_, report) = tokio::join!(bench.talk(&NetworkScope::Live, "APPEND 30\n"), bench.provider.cut(&order));
            let report = report.unwrap();
            assert_eq!((report.consistency, report.disks.len()), (consistency, 3), "{:?}", report.notes);
            eprintln!("{barrier}: held {} us, transactions {} us", report.hold_micros, report.transaction_micros);
            bench.read_cut_of("db", barrier, "data", base.is_some(), &data).await;
            bench.read_cut_of("app", barrier, "root", base.is_some(), &root).await;
            let check = check_shop(&data, Some(&root)).unwrap_or_else(|error| panic!("{barrier}: {error}"));
            let held = check.app.unwrap();
            assert!(held.tally.last > 0);
            assert_eq!(check.database.clean && held.clean, consistency == Consistency::App, "{barrier}: {check:?}");
            bench.provider.settle(&BarrierId::new(barrier), CutOutcome::Committed).await.unwrap();
            base = Some(barrier);
        }

        bench.lab.site_mut("hq").unwrap().kill().unwrap();
        bench
            .until("both are off", async || {
                let states = bench.provider.instances().await.unwrap();
                states.iter().all(|state| state.power == Power::Off)
            })
            .await;
    });
}
