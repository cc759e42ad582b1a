//! `cargo demo`: the main job, end to end, with a table of what was measured.
//!
//! `cargo demo -- --simulated` plays it on the simulated estate also where real machines would run;
//! `cargo demo -- --keep` leaves the folder behind.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

use muster_demo::estate::Estate;
use muster_demo::machine::{self, Ability};
use muster_demo::muster::{self, Muster};
use muster_demo::real::RealEstate;
use muster_demo::simulated::SimulatedEstate;
use muster_demo::story::Story;
use muster_demo::{Result, during, summary};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match play(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(arguments: &[String]) -> Result<()> {
    let packages = muster_lab::packages();
    let ability = if arguments.iter().any(|argument| argument == "--simulated") {
        Ability::Simulated { why: "asked for with --simulated".into() }
    } else {
        machine::prepare(&packages, &|text| println!("demo: {text}"))
    };
    match &ability {
        Ability::RealMachines => println!("demo: real virtual machines, two sites on this computer"),
        Ability::Simulated { why } => {
            println!("demo: a SIMULATED estate over real image files, replicated for real ({why})");
        }
    }
    let built = std::env::args().skip_while(|word| word != "--binary").nth(1);
    let binary = match built {
        Some(binary) => PathBuf::from(binary),
        None => {
            println!("demo: building muster");
            let (binary, seconds) = muster::build()?;
            println!("demo: built in {seconds:.0}s");
            binary
        }
    };
    if ability == Ability::RealMachines && !machine::is_root() {
        return as_root(&binary, arguments);
    }

    // Short on purpose: Unix sockets live below it, and their paths may have 107 bytes.
    let folder = std::env::temp_dir().join(format!("muster-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(during(folder.display()))?;
    let keep = arguments.iter().any(|argument| argument == "--keep");
    let played = show(&folder, &binary, ability);
    if keep || played.is_err() {
        println!("demo: everything lies in {}", folder.display());
    } else {
        let _ = std::fs::remove_dir_all(&folder);
    }
    played
}

/// Goes on as root, which namespaces and bridges need; what was built stays the user's.
fn as_root(binary: &Path, arguments: &[String]) -> Result<()> {
    println!("demo: going on with sudo, for network namespaces and bridges");
    let this = std::env::current_exe().map_err(during("find this program"))?;
    let status = machine::as_root(&this.display().to_string())
        .args(arguments)
        .arg("--binary")
        .arg(binary)
        .status()
        .map_err(during("sudo"))?;
    if status.success() { Ok(()) } else { Err("the part that ran with sudo has failed".into()) }
}

fn show(folder: &Path, binary: &Path, ability: Ability) -> Result<()> {
    let began = Instant::now();
    let key = folder.join("muster.key");
    let mut estate: Box<dyn Estate> = match ability {
        Ability::RealMachines => Box::new(RealEstate::new(&folder.join("lab"), binary, &key)?),
        Ability::Simulated { why } => Box::new(SimulatedEstate::new(&folder.join("lab"), binary, &key, &why)?),
    };
    let kind = estate.kind();
    let muster = Muster { binary: binary.to_owned(), plans: folder.join("plans"), key, runtime: None, show: true };
    let mut story = Story { muster, estate: estate.as_mut(), folder, rows: Vec::new() };
    let told = story.tell();
    println!("\n{kind}\n{}", summary::table(&story.rows));
    println!("told in {:.0}s after the build", began.elapsed().as_secs_f64());
    told
}
