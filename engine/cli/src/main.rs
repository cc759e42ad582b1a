//! The binary `muster`: reads the command line, hands the work to the process that holds the vault, shows what happens.
//!
//! Architecture invariant: no decision about recovery is taken here. Commands turn words into requests and answers into
//! tables.

// A binary has no outside: `pub` here says what a module offers its neighbours.
#![allow(unreachable_pub)]

mod arguments;
mod commands;
mod exit;
mod output;

use arguments::{Arguments, Command, Common, InventoryCommand, SeedCommand, VaultCommand};
use clap::{CommandFactory, Parser};
use commands::{
    agent, bundle, certificate, check, check_watch, diff, drift, dry_run, extract, hook, import, keys, laboratory,
    machines, metrics, operate, people, plans, replicate, report, seed, show, test, upkeep, vault, watch, what_if,
};
use exit::Exit;
use muster_ports::Result;
use muster_runsheet::Kind;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    output::choose_color(arguments.common.color);
    log_to_stderr(&arguments.common);
    // Data work runs on blocking threads of its own; two workers are enough to steer it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(arguments));
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::failure(&failure);
            exit::of(&failure).into()
        }
    }
}

async fn run(arguments: Arguments) -> Result<Exit> {
    let mut common = arguments.common;
    // Held to the end: the plans of a bundle lie in a folder of their own as long.
    let _unpacked = match common.bundle.clone() {
        Some(file) => Some(bundle::enter(&mut common, &file).await?),
        None => None,
    };
    let common = &common;
    match arguments.command {
        Command::Check { watch: true, .. } => check_watch::watch(common).await,
        Command::Check { files, fix, sarif, .. } => check::check(common, &files, check::CheckOptions { fix, sarif }),
        Command::Fmt { files, check } => plans::fmt(common, &files, check),
        Command::Explain { code } => plans::explain(&code),
        Command::Test(options) => test::test(common, &options),
        Command::Hook(command) => hook::hook(common, command).await,
        Command::Inventory(InventoryCommand::Pull) => vault::pull_inventory(common).await,
        Command::Vault(VaultCommand::Init) => vault::init(common).await,
        Command::Vault(VaultCommand::Info) => vault::info(common).await,
        Command::Vault(VaultCommand::Gc { grace, options }) => upkeep::gc(common, &grace, &options).await,
        Command::Vault(VaultCommand::Key(command)) => keys::key(common, command).await,
        Command::Certificate(command) => certificate::certificate(command),
        Command::Protect { groups, options } => replicate::protect(common, groups, &options).await,
        Command::Seed(SeedCommand::Export { groups, to, options }) => seed::export(common, groups, &to, &options).await,
        Command::Seed(SeedCommand::Import { groups, from, options }) => {
            seed::import(common, groups, &from, &options).await
        }
        Command::Replicate { pause: Some(groups), options, .. } => {
            replicate::pause(common, groups, true, &options).await
        }
        Command::Replicate { resume: Some(groups), options, .. } => {
            replicate::pause(common, groups, false, &options).await
        }
        Command::Replicate { once, until_protected, options, .. } => {
            replicate::replicate(common, once, until_protected, &options).await
        }
        Command::Status => show::status(common).await,
        Command::Metrics => metrics::metrics(common).await,
        Command::Machines => machines::machines(common).await,
        Command::Power { word, site, machine } => machines::power(common, word, site, machine).await,
        Command::Points { group } => show::points(common, group).await,
        Command::Point(command) => upkeep::point(common, command).await,
        Command::Scrub => upkeep::scrub(common).await,
        Command::Verify { point, all } => upkeep::verify(common, point, all).await,
        Command::Materialise(options) => extract::materialise(common, options).await,
        Command::Mount(options) => extract::mount(common, options).await,
        Command::Files(command) => extract::files(common, command).await,
        Command::Restore(options) => extract::restore(common, options).await,
        Command::Scan(options) => extract::scan(common, options).await,
        Command::Runs => show::runs(common).await,
        Command::Log { run, verify } => show::log(common, run, verify).await,
        Command::DryRun { asked, output, view } => dry_run::dry_run(common, &asked, output, view).await,
        Command::WhatIf { asked, circumstances } => what_if::what_if(common, &asked, circumstances).await,
        Command::Show { file, view } => dry_run::show(common, &file, view).await,
        Command::Diff { before, after } => diff::diff(common, &before, after.as_deref()).await,
        Command::Drift { inventory } => drift::drift(common, inventory.as_deref()).await,
        Command::Run { file, options } => operate::run_file(common, &file, &options).await,
        Command::Drill { plan, options } => operate::start(common, &plan, Kind::Test, None, false, &options).await,
        Command::Cleanup { plan, options } => operate::cleanup(common, plan, &options).await,
        Command::Failover { plan, planned, point, accept_split_brain, options } => {
            let kind = if planned { Kind::Planned } else { Kind::Unplanned };
            operate::failover(common, &plan, kind, point, accept_split_brain, &options).await
        }
        Command::Failback { plan, unplanned, point, accept_split_brain, options } => {
            let kind = if unplanned { Kind::Unplanned } else { Kind::Planned };
            operate::failback(common, &plan, kind, point, accept_split_brain, &options).await
        }
        Command::Commit { plan, options } => operate::start(common, &plan, Kind::Commit, None, false, &options).await,
        Command::Cancel { plan, options } => operate::cancel(common, &plan, &options).await,
        Command::Reprotect { plan, options } => {
            operate::start(common, &plan, Kind::Reprotect, None, false, &options).await
        }
        Command::Resume { run, options } => operate::resume(common, run, &options).await,
        Command::Repoint { plan, point, dry_run: true, .. } => dry_run::repoint(common, plan, point).await,
        Command::Repoint { plan, point, options, .. } => operate::repoint(common, plan, point, &options).await,
        Command::Pause { run, signature } => people::pause(common, run, &signature).await,
        Command::Amend { run, file, signature } => people::amend(common, run, &file, &signature).await,
        Command::Decide { run, step, decision, signature } => {
            people::decide(common, run, step, decision, &signature).await
        }
        Command::Approve { run, step, no, signature } => people::approve(common, run, step, no, &signature).await,
        Command::Watch { run, signature } => watch::watch(common, run, &signature).await,
        Command::Report(options) => report::report(common, &options).await,
        Command::Bundle(options) => bundle::bundle(common, &options).await,
        Command::Agent { provider, site, folder, listen } => agent::agent(common, provider, site, folder, listen).await,
        Command::CutWatchdog => agent::cut_watchdog().await,
        Command::Import(command) => import::import(common, command),
        Command::Export(command) => import::export(common, command),
        Command::Laboratory(command) => laboratory::laboratory(common, command),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "muster", &mut text);
            output::data(String::from_utf8_lossy(&text));
            Ok(Exit::Done)
        }
        Command::Man => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Arguments::command()).render(&mut text)?;
            output::data(String::from_utf8_lossy(&text));
            Ok(Exit::Done)
        }
    }
}

/// Logs go to stderr; `RUST_LOG` wins over `-v`.
fn log_to_stderr(common: &Common) {
    let level = match common.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("{level},slatedb=off,object_store=off")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| commands::watch_screen::LogWriter)
        .with_ansi(output::color_on_stderr(common))
        .with_target(false)
        .init();
}
