//! `protect` and `replicate`: the intent, and the process that keeps it.

use super::{open, plans};
use crate::arguments::{Common, RunOptions};
use crate::exit::Exit;
use crate::output;
use muster_control::{Request, StatusAnswer};
use muster_journal::LEASE_TTL;
use muster_ports::{Clock, Failure, FailureClass, GroupName, Result, SystemClock, Timestamp};
use muster_replication::GroupPhase;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often `--until-protected` looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often `replicate` tries to hold the vault again after it had to let go of it.
const REOPEN_EVERY: Duration = Duration::from_secs(5);
/// How long its own lease may stand in its way then: as long as a lease lives, and a little for a slow disk.
const OWN_LEASE_LIMIT: Duration = Duration::from_secs(LEASE_TTL.as_secs() + 15);

pub async fn protect(common: &Common, groups: Vec<String>, options: &RunOptions) -> Result<Exit> {
    let project = match plans::load(common)? {
        Ok(project) => project,
        Err(exit) => return Ok(exit),
    };
    let access = open::writing(common, Some(&project), "protect", options).await?;
    let request = Request::Protect {
        estate: Box::new((*project.checked.estate).clone()),
        groups: groups.into_iter().map(GroupName::new).collect(),
    };
    let answer: Result<Vec<GroupName>> = access.ask(&request, common).await;
    access.close().await;
    let protected = answer?;
    if common.json {
        output::json(&protected);
    } else {
        for group in protected {
            output::say(format!("protected: {group}"));
        }
        output::say("`muster replicate` makes it so");
    }
    Ok(Exit::Done)
}

/// Stops the schedule of groups, or lets it go on.
pub async fn pause(common: &Common, groups: Vec<String>, pause: bool, options: &RunOptions) -> Result<Exit> {
    let access = open::writing(common, None, "replicate", options).await?;
    let request = Request::Schedule {
        groups: groups.into_iter().map(GroupName::new).collect(),
        pause,
        who: open::who(&options.signature),
        why: options.signature.why.clone(),
    };
    let answer: Result<Vec<GroupName>> = access.ask(&request, common).await;
    access.close().await;
    let groups = answer?;
    if common.json {
        output::json(&groups);
    }
    for group in groups.iter().filter(|_| !common.json) {
        output::say(format!("{}: {group}", if pause { "paused" } else { "replicates again" }));
    }
    Ok(Exit::Done)
}

pub async fn replicate(common: &Common, once: bool, until_protected: bool, options: &RunOptions) -> Result<Exit> {
    let access = open::writing(common, None, "replicate", options).await?;
    if once {
        let answer: Result<StatusAnswer> = access.ask(&Request::Cycle { groups: Vec::new() }, common).await;
        access.close().await;
        answer?;
        return Ok(Exit::Done);
    }
    if until_protected {
        return tokio::select! {
            exit = protected(access, common, options) => exit,
            () = interrupted() => Ok(Exit::Done),
        };
    }
    let mut told = Told::default();
    let mut ended = stay(access, common, options, &mut told).await;
    let mut given_up_at = SystemClock.now();
    // Whatever passes by itself must not end replication for good: a full disk, a vault out of reach.
    loop {
        let failure = match ended {
            Ok(()) => return Ok(Exit::Done),
            Err(Ended::Working(failure)) if failure.is_retryable() => {
                given_up_at = SystemClock.now();
                failure
            }
            Err(Ended::Opening(failure)) if may_pass(&failure, given_up_at) => failure,
            Err(Ended::Working(failure) | Ended::Opening(failure)) => return Err(failure),
        };
        // Its own lease is no news.
        if failure.is_retryable() {
            told.stopped(&failure);
        }
        tokio::select! {
            () = SystemClock.sleep(REOPEN_EVERY) => {}
            () = interrupted() => return Ok(Exit::Done),
        }
        ended = match open::writing(common, None, "replicate", options).await {
            Ok(access) => stay(access, common, options, &mut told).await,
            Err(failure) => Err(Ended::Opening(failure)),
        };
    }
}

/// Where replication came to an end.
enum Ended {
    /// Before this process held the vault.
    Opening(Failure),
    Working(Failure),
}

/// What could not be given back in good order still names this process as the holder, until it runs out.
fn may_pass(failure: &Failure, given_up_at: Timestamp) -> bool {
    failure.is_retryable()
        || (failure.class == FailureClass::Refused && SystemClock.now().since(given_up_at) < OWN_LEASE_LIMIT)
}

/// Replicates as the holder of the vault until somebody interrupts.
async fn stay(
    access: open::Opened,
    common: &Common,
    options: &RunOptions,
    told: &mut Told,
) -> std::result::Result<(), Ended> {
    let access = tokio::select! {
        access = holding(access, common, options) => access.map_err(Ended::Opening)?,
        () = interrupted() => return Ok(()),
    };
    let exit = match replicating(&access, common).await {
        Ok(groups) => {
            output::say(format!("replicating {groups} groups; interrupt to stop"));
            told.stopped = None;
            tokio::select! {
                failure = follow(&access, common, told) => Err(Ended::Working(failure)),
                () = interrupted() => Ok(()),
            }
        }
        Err(failure) => Err(Ended::Working(failure)),
    };
    // It may wait for the run of another command; who interrupts again does not.
    tokio::select! {
        () = access.close() => {}
        () = interrupted() => {}
    }
    exit
}

/// Waits until this process holds the vault. Any command may hold it for a while, and ends with its own work: without
/// somebody who waits for that, nobody would replicate afterwards.
async fn holding(mut access: open::Opened, common: &Common, options: &RunOptions) -> Result<open::Opened> {
    if access.access().is_remote() {
        let status: StatusAnswer = access.ask(&Request::Status, common).await?;
        let holder = status.holder.unwrap_or_else(|| "another muster".to_owned());
        output::say(format!("{holder} holds the vault; this one takes over when it ends"));
    }
    while access.access().is_remote() {
        // Off the line meanwhile: a holder ends when no other command is on it.
        access.close().await;
        SystemClock.sleep(LOOK_EVERY).await;
        access = open::writing(common, None, "replicate", options).await?;
    }
    Ok(access)
}

/// Has whoever holds the vault replicate on the clock; answers with the number of groups.
async fn replicating(access: &open::Opened, common: &Common) -> Result<usize> {
    let status: StatusAnswer = access.ask(&Request::Replicate, common).await?;
    match status.groups.len() {
        0 => Err(Failure::permanent("no group is protected").help("`muster protect` records which to replicate")),
        groups => Ok(groups),
    }
}

/// Waits until every group has a point. Whoever holds the vault is asked to replicate meanwhile, and when it ends this
/// process goes on in its place.
async fn protected(mut access: open::Opened, common: &Common, options: &RunOptions) -> Result<Exit> {
    let mut told = Told::default();
    let mut holder = None;
    loop {
        let exit = match replicating(&access, common).await {
            Ok(groups) => look(&access, common, &mut told, &mut holder, groups).await,
            Err(failure) => Err(failure),
        };
        match exit {
            Ok(false) => {}
            Ok(true) => {
                access.close().await;
                return Ok(Exit::Done);
            }
            Err(failure) => {
                access.close().await;
                return Err(failure);
            }
        }
        SystemClock.sleep(LOOK_EVERY).await;
        if access.access().is_remote() {
            access.close().await;
            access = open::writing(common, None, "replicate", options).await?;
        }
    }
}

/// Whether every group has a point.
async fn look(
    access: &open::Opened,
    common: &Common,
    told: &mut Told,
    holder: &mut Option<String>,
    groups: usize,
) -> Result<bool> {
    let status: StatusAnswer = access.ask(&Request::Status, common).await?;
    if *holder != status.holder {
        let by = match &status.holder {
            Some(holder) if access.access().is_remote() => format!(" by {holder}"),
            _ => String::new(),
        };
        output::say(format!("replicating {groups} groups{by} until each has a recovery point"));
        holder.clone_from(&status.holder);
    }
    told.news(&status);
    match access.access().lost() {
        Some(failure) => Err(failure),
        // A disk that travels is not waited for.
        None => Ok(status
            .groups
            .iter()
            .all(|group| group.newest.is_some() || matches!(group.phase, GroupPhase::AwaitsSeed { .. }))),
    }
}

/// Shows what goes wrong with replication, until this process cannot go on.
async fn follow(access: &open::Opened, common: &Common, told: &mut Told) -> Failure {
    loop {
        match access.ask(&Request::Status, common).await {
            Ok(status) => told.news(&status),
            Err(failure) => return failure,
        }
        if let Some(failure) = access.access().lost() {
            return failure;
        }
        SystemClock.sleep(LOOK_EVERY).await;
    }
}

/// What a person has been told of failures: each is said once, and its end too.
#[derive(Default)]
struct Told {
    groups: BTreeMap<GroupName, String>,
    /// Why nothing is replicated at all.
    stopped: Option<String>,
}

impl Told {
    fn news(&mut self, status: &StatusAnswer) {
        for group in &status.groups {
            let name = &group.group;
            let Some(error) = &group.last_error else {
                if self.groups.remove(name).is_some() {
                    output::say(format!("{name}: replicates again"));
                }
                continue;
            };
            let message = &error.failure.message;
            if self.groups.get(name) != Some(message) {
                say(&format!("{name}: {message}"), error.failure.help.as_deref());
                self.groups.insert(name.clone(), message.clone());
            }
        }
    }

    fn stopped(&mut self, failure: &Failure) {
        if self.stopped.as_ref() != Some(&failure.message) {
            let seconds = REOPEN_EVERY.as_secs();
            say(
                &format!("replication stands still: {}; tried again every {seconds} s", failure.message),
                failure.help.as_deref(),
            );
            self.stopped = Some(failure.message.clone());
        }
    }
}

fn say(text: &str, help: Option<&str>) {
    output::say(text);
    if let Some(help) = help {
        output::say(format!("hint: {help}"));
    }
}

pub async fn interrupted() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(signal) => signal,
        Err(_) => return std::future::pending().await,
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
