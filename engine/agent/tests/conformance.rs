//! One suite for every way to be a site: beside the hypervisor, and over TCP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use muster_ports::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::*;

#[derive(Default)]
struct Heard(Mutex<Vec<(u64, Option<u64>)>>);

impl Progress for Heard {
    fn report(&self, done: u64, total: Option<u64>) {
        self.0.lock().unwrap().push((done, total));
    }
}

/// Every verb of a site once, in the order of a failover. The site has no machines yet and is called `dr`.
async fn conforms(site: Arc<dyn Site>, plane: &MemoryPlane) {
    asks(&*site).await;
    let root = plane.put("root", content(3));
    let data = plane.put("data", content(9));
    let instance = name("db");
    let instant = order("db", "k1", LandMode::Instant, [root.clone(), data.clone()]);
    site.land(&instant, &Silent).await.unwrap();
    let state = site.instance(&instance).await.unwrap().unwrap();
    assert!(state.tied && state.power == Power::Off);
    assert_eq!(site.inventory().await.unwrap()[0].disks[1].name.as_str(), "data");
    site.land(&instant, &Silent).await.unwrap();
    site.start(&instance).await.unwrap();
    assert_eq!(site.undefine(&instance, true).await.unwrap_err().class, FailureClass::Refused);
    let heard = Heard::default();
    site.hydrate(&instance, &heard).await.unwrap();
    assert!(!heard.0.lock().unwrap().is_empty());
    assert!(!site.instance(&instance).await.unwrap().unwrap().tied);

    ships(&*site, plane, &instance).await;
    site.untrack(&instance).await.unwrap();
    site.fence(&instance).await.unwrap();
    assert_eq!(site.start(&instance).await.unwrap_err().class, FailureClass::Refused);
    site.unfence(&instance).await.unwrap();
    site.start(&instance).await.unwrap();
    site.stop(&instance, StopMode::Orderly { within: Duration::from_millis(1500) }).await.unwrap();

    let newer = plane.put("newer", content(4));
    let report = site.land(&order("db", "k2", LandMode::Differences, [newer, data]), &heard).await.unwrap();
    assert_eq!((report.compared_bytes, report.written_bytes), (2 * DISK_BYTES, DISK_BYTES));
    assert_eq!(heard.0.lock().unwrap().last(), Some(&(2 * DISK_BYTES, Some(2 * DISK_BYTES))));
    site.undefine(&instance, true).await.unwrap();
    site.undefine(&instance, true).await.unwrap();
    assert_eq!(site.instance(&instance).await.unwrap(), None);
}

async fn asks(site: &dyn Site) {
    assert_eq!(site.facts().await.unwrap().site.as_str(), "dr");
    assert!(site.inventory().await.unwrap().is_empty());
    site.ensure_networks(&[NetworkShape { name: "app".into(), cidr: "10.0.0.0/24".to_owned() }]).await.unwrap();
    let bubble = BubbleShape { bubble: "b1".into(), networks: Vec::new(), labels: BTreeMap::new() };
    site.create_bubble(&bubble).await.unwrap();
    assert_eq!(site.bubbles().await.unwrap(), [BubbleId::new("b1")]);
    let scope = NetworkScope::Bubble { bubble: "b1".into() };
    let (ip, within) = ([10, 0, 0, 5].into(), Duration::from_secs(1));
    let probe = Probe::Http { ip, port: 80, path: "/ready".to_owned(), within };
    assert_eq!(site.probe(&scope, &probe).await.unwrap(), ProbeAnswer { status: 200, body: "/ready".to_owned() });
    let probe = Probe::Talk { ip, port: 7000, send: "hello\n".to_owned(), within };
    assert_eq!(site.probe(&NetworkScope::Live, &probe).await.unwrap().body, "HELLO\n");
    site.discard_bubble(&"b1".into()).await.unwrap();
    assert!(site.bubbles().await.unwrap().is_empty());

    let stranger = name("nobody");
    let failure = site.guest_ping(&stranger).await.unwrap_err();
    let wanted = Failure::permanent("there is no `nobody`").help("look at the inventory");
    assert_eq!(failure, wanted, "failures arrive whole");
    assert_eq!(site.instance(&stranger).await.unwrap(), None);
    let command = GuestCommand {
        program: "/bin/cat".to_owned(),
        arguments: vec!["a".to_owned(), "b".to_owned()],
        stdin: Some("öl\0".to_owned()),
        within,
    };
    let output = site.guest_exec(&stranger, &command).await.unwrap();
    assert_eq!((output.code, output.out.as_str(), output.err.as_str()), (2, "öl\0", "/bin/cat"));
    assert_eq!(site.console(&stranger, 70_000).await.unwrap().len(), 70_000);
}

async fn ships(site: &dyn Site, plane: &MemoryPlane, instance: &InstanceName) {
    let machine = MachineName::new(instance.as_str());
    let cut = CutOrder {
        barrier: "c1".into(),
        members: vec![CutMember { instance: instance.clone(), machine: machine.clone(), base: None }],
        consistency: Consistency::Crash,
        hold: true,
        hold_limit: Duration::from_secs(2),
    };
    let report = site.cut(&cut).await.unwrap();
    assert_eq!(report.disks.len(), 2);
    let ship = ShipOrder {
        vault: "file:///vault".to_owned(),
        epoch: Epoch(1),
        barrier: "c1".into(),
        machine,
        disk: "root".into(),
        lineage: "l1".into(),
        mode: ShipMode::Full,
        compression: 1,
        rate_limit: None,
        pace: None,
        seed: None,
    };
    let heard = Heard::default();
    let shipped = site.ship(&ship, &heard).await.unwrap();
    assert_eq!((shipped.read_bytes, shipped.segments.len()), (DISK_BYTES, 1));
    assert_eq!(plane.segments.lock().unwrap()["l1/root"], content(3));
    let heard = heard.0.into_inner().unwrap();
    assert!(heard.len() > 1, "progress of long work arrives while it goes on: {heard:?}");
    assert_eq!(heard.last(), Some(&(DISK_BYTES, Some(DISK_BYTES))));
    site.settle(&"c1".into(), CutOutcome::Committed).await.unwrap();
    assert!(site.ship(&ship, &Silent).await.unwrap_err().message.contains("there is no cut `c1`"));

    // An order that arrives after its own settling, as when a cycle is given up while it cuts, leaves no cut behind.
    let late = CutOrder { barrier: "c2".into(), ..cut };
    site.settle(&"c2".into(), CutOutcome::Abandoned).await.unwrap();
    assert_eq!(site.cut(&late).await.unwrap_err().class, FailureClass::Refused);
    let ship = ShipOrder { barrier: "c2".into(), ..ship };
    assert!(site.ship(&ship, &Silent).await.unwrap_err().message.contains("there is no cut `c2`"));
}

#[tokio::test]
async fn beside_the_hypervisor() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, plane) = (MemoryProvider::new("dr"), Arc::new(MemoryPlane::default()));
    conforms(Arc::new(local(&provider, &plane, folder.path())), &plane).await;
    assert_eq!(provider.count("define"), 2);
}

#[tokio::test]
async fn over_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, plane) = (MemoryProvider::new("dr"), Arc::new(MemoryPlane::default()));
    let agent = Agent::start(Arc::new(local(&provider, &plane, folder.path()))).await;
    conforms(agent.remote("dr"), &plane).await;
    assert_eq!(provider.count("define"), 2);
}
