//! Random storms over all cases. `MUSTER_SIMULATION_SEED=N` replays one seed, `MUSTER_SIMULATION_SEEDS=N` plays so many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

use muster_runsheet::Kind;
use muster_simulation::cases::{Case, SHIPPED, Source, shipped, small};
use muster_simulation::compare::{Compared, compare};
use muster_simulation::play::{Outcome, Played, in_virtual_time, play};
use muster_simulation::storm::Storm;
use muster_simulation::tally::KINDS;
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
        let source = match (case.kind(), (seed / 7) % 4) {
            (Kind::Unplanned, 0) => Source::Burnt,
            (Kind::Unplanned, 1) => Source::CutOff,
            (Kind::Unplanned, 2) => Source::Back,
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
fn judge(seed: u64) -> (Played, Compared, Vec<String>, String) {
    let cases = Cases::all();
    let (case, source) = cases.of(seed);
    let (calm, writes) = cases.calm(case, source);
    let storm = Storm::from_seed(seed, &case.sites(), writes);
    let played = in_virtual_time(play(case, source, &storm));
    // A site that comes back in the middle is met in another state than by any run that is not disturbed.
    let (compared, differs) = match source {
        Source::Back => (Compared::Nothing, Vec::new()),
        _ => compare(case, source, &played, &calm),
    };
    let wrong = played.wrong.iter().cloned().chain(differs).collect();
    (played, compared, wrong, format!("{} ({source:?})", case.name))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn random_storms_do_no_harm() {
    if let Some(seed) = number("MUSTER_SIMULATION_SEED") {
        let (played, compared, wrong, case) = judge(seed);
        for record in &played.loaded.records {
            println!("{}", serde_json::to_string(record).unwrap());
        }
        println!("{case}: {:?} after {} lives, {} stolen", played.outcome.end, played.lives, played.stolen);
        println!("{}; {:?}", compared.words(), played.tally);
        assert!(wrong.is_empty(), "{case}: {wrong:#?}");
        return;
    }
    let seeds = number("MUSTER_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let first = number("MUSTER_SIMULATION_FROM").unwrap_or(0);
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + seeds {
                        return;
                    }
                    let judged = std::panic::catch_unwind(|| judge(seed));
                    let (played, compared, wrong, case) = match judged {
                        Ok(judged) => judged,
                        Err(_) => {
                            failed.lock().unwrap().push((seed, "it broke off".to_owned()));
                            continue;
                        }
                    };
                    total.lock().unwrap().add(&played, compared);
                    if !wrong.is_empty() {
                        failed.lock().unwrap().push((seed, format!("{case}: {}", wrong.join("; "))));
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    println!("{seeds} storms, {} lives of the engine, {} leases stolen", total.lives, total.stolen);
    for (compared, times) in &total.compared {
        println!("{times:>8} {}", compared.words());
    }
    for kind in KINDS {
        println!("{:>8} {kind}", total.tally.get(kind).copied().unwrap_or(0));
    }
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    for (seed, wrong) in &failed {
        println!(
            "MUSTER_SIMULATION_SEED={seed} cargo test -p muster-simulation --test seeds -- --nocapture  # {wrong}"
        );
    }
    assert!(failed.is_empty(), "{} of {seeds} seeds failed", failed.len());
    // The storms are storms, with everything in them, and what they come to is compared.
    if seeds >= SEEDS {
        assert!(total.lives > seeds && total.stolen > seeds / 20, "{} lives, {} stolen", total.lives, total.stolen);
        let never: Vec<_> = KINDS.iter().filter(|kind| !total.tally.contains_key(*kind)).collect();
        assert!(never.is_empty(), "never drawn: {never:?}");
        let nothing = total.compared.get(&Compared::Nothing).copied().unwrap_or(0);
        assert!(nothing < seeds / 4, "{nothing} of {seeds} were not compared");
    }
}

/// What all storms came to.
#[derive(Default)]
struct Total {
    lives: u64,
    stolen: u64,
    compared: BTreeMap<Compared, u64>,
    tally: BTreeMap<&'static str, u64>,
}

impl Total {
    fn add(&mut self, played: &Played, compared: Compared) {
        self.lives += u64::from(played.lives);
        self.stolen += u64::from(played.stolen);
        *self.compared.entry(compared).or_default() += 1;
        for (kind, times) in &played.tally {
            *self.tally.entry(kind).or_default() += times;
        }
    }
}
