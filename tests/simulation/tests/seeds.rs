//! Random storms over all cases. `MUSTER_SIMULATION_SEED=N` replays one seed, `MUSTER_SIMULATION_SEEDS=N` plays so many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

use muster_provider_simulated::CallClass;
use muster_runsheet::Kind;
use muster_simulation::cases::{Case, SHIPPED, Source, shipped, small};
use muster_simulation::play::{Outcome, Played, in_virtual_time, play};
use muster_simulation::storm::Storm;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

/// Seeds of a run of all tests.
const SEEDS: u64 = 2_000;
/// One seed in so many plays a plan that ships with the project.
const SHIPPED_EVERY: u64 = 60;

/// What undisturbed runs come to, and about how many durable writes they take.
type Calm = (Outcome, u64);

struct Cases {
    small: Vec<Case>,
    shipped: Vec<Case>,
    calm: Mutex<BTreeMap<(String, Source), Calm>>,
}

impl Cases {
    fn all() -> &'static Self {
        static ALL: OnceLock<Cases> = OnceLock::new();
        ALL.get_or_init(|| Self {
            small: small(),
            shipped: SHIPPED.iter().flat_map(|folder| shipped(folder)).collect(),
            calm: Mutex::default(),
        })
    }

    fn of(&self, seed: u64) -> (&Case, Source) {
        let (cases, pick) = match seed % SHIPPED_EVERY {
            0 => (&self.shipped, seed / SHIPPED_EVERY),
            _ => (&self.small, seed),
        };
        let case = &cases[usize::try_from(pick).unwrap() % cases.len()];
        let source = match (case.kind(), (seed / 7) % 3) {
            (Kind::Unplanned, 0) => Source::Burnt,
            (Kind::Unplanned, 1) => Source::CutOff,
            _ => Source::Well,
        };
        (case, source)
    }

    fn calm(&self, case: &Case, source: Source) -> Calm {
        let key = (case.name.clone(), source);
        if let Some(known) = self.calm.lock().unwrap().get(&key) {
            return known.clone();
        }
        let played = in_virtual_time(play(case, source, &Storm::none()));
        assert!(played.wrong.is_empty(), "{} {source:?}, undisturbed: {:#?}", case.name, played.wrong);
        assert_eq!(played.lives, 1, "{}", case.name);
        let calm = (played.outcome, played.writes);
        self.calm.lock().unwrap().insert(key, calm.clone());
        calm
    }
}

/// Everything that is wrong with what this seed comes to.
fn judge(seed: u64) -> (Played, Vec<String>, String) {
    let cases = Cases::all();
    let (case, source) = cases.of(seed);
    let (calm, writes) = cases.calm(case, source);
    let storm = Storm::from_seed(seed, &case.sites(), writes);
    let played = in_virtual_time(play(case, source, &storm));
    let mut wrong = played.wrong.clone();
    // A site that comes back in the middle is met in another state than by a run that met it dead, and so is one whose
    // machines a person has switched off to be able to sign for it.
    let by_hand = source == Source::Well && played.was_signed_for();
    if played.is_straight() && source != Source::CutOff && !by_hand {
        // Unplanned, what an orderly stop did not reach is switched off by the fence: the same end by another effect.
        let stops = [CallClass::Stop, CallClass::Fence].map(|class| format!("{}: {class:?}", case.sheet.source));
        let either_way = if case.kind() == Kind::Unplanned { &stops[..] } else { &[] };
        wrong.extend(played.differs(&calm, either_way));
    }
    (played, wrong, format!("{} ({source:?})", case.name))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn random_storms_do_no_harm() {
    if let Some(seed) = number("MUSTER_SIMULATION_SEED") {
        let (played, wrong, case) = judge(seed);
        for record in &played.loaded.records {
            println!("{}", serde_json::to_string(record).unwrap());
        }
        println!("{case}: {:?} after {} lives, {} stolen", played.outcome.end, played.lives, played.stolen);
        assert!(wrong.is_empty(), "{case}: {wrong:#?}");
        return;
    }
    let seeds = number("MUSTER_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let first = number("MUSTER_SIMULATION_FROM").unwrap_or(0);
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    let (lives, stolen, straight) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + seeds {
                        return;
                    }
                    let judged = std::panic::catch_unwind(|| judge(seed));
                    let (played, wrong, case) = match judged {
                        Ok(judged) => judged,
                        Err(_) => {
                            failed.lock().unwrap().push((seed, "it broke off".to_owned()));
                            continue;
                        }
                    };
                    lives.fetch_add(u64::from(played.lives), Ordering::SeqCst);
                    stolen.fetch_add(u64::from(played.stolen), Ordering::SeqCst);
                    straight.fetch_add(u64::from(played.is_straight()), Ordering::SeqCst);
                    if !wrong.is_empty() {
                        failed.lock().unwrap().push((seed, format!("{case}: {}", wrong.join("; "))));
                    }
                }
            });
        }
    });
    let (lives, stolen) = (lives.into_inner(), stolen.into_inner());
    println!(
        "{seeds} storms, {lives} lives of the engine, {stolen} leases stolen, {} came to the undisturbed outcome",
        straight.into_inner()
    );
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    for (seed, wrong) in &failed {
        println!(
            "MUSTER_SIMULATION_SEED={seed} cargo test -p muster-simulation --test seeds -- --nocapture  # {wrong}"
        );
    }
    assert!(failed.is_empty(), "{} of {seeds} seeds failed", failed.len());
    // The storms are storms.
    assert!(lives > seeds && stolen > seeds / 20, "{lives} lives, {stolen} stolen");
}
