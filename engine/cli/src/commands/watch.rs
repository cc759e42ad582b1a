//! `--watch` and `watch`: the live table of a run, driven here, by another process of this host, or elsewhere.
//!
//! ```text
//!   request --> holder --> events --> State --> render --> terminal
//!   keys -----> State ---> answer, pause --> holder
//! ```
//!
//! Leaving the table stops nothing. Whatever cannot be shown (no terminal, `--json`) falls back to lines.

use super::watch_screen::Screen;
use super::watch_state::{Act, Estimates, State};
use super::{foresee, open, watch_view};
use crate::arguments::{Common, RunOptions, Signature};
use crate::exit::Exit;
use crate::output::{self, Watcher};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use muster_control::{DossierAnswer, Event, LogAnswer, Request, RunAnswer};
use muster_forecast::{Conditions, Evidence, Forecast, Question};
use muster_journal::{Answer, Event as Recorded, RunStatus, Signed};
use muster_ports::{Clock, Failure, Result, RunId, SystemClock};
use muster_runsheet::{Estate, Runsheet};
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// How often the table is drawn while nothing happens: times run on.
const TICK: Duration = Duration::from_millis(250);
/// How often what was recorded of a run that another process drives is read. Each look reads what is new.
const LOOK: Duration = Duration::from_secs(1);
/// Added to a signal's number in the exit code, as shells do.
const SIGNAL_CODE: i32 = 128;
const INTERRUPT: i32 = 2;

/// Sends the request and shows what happens: the live table where it was asked for and there is a terminal, else lines.
pub async fn follow(
    access: &open::Opened,
    request: &Request,
    common: &Common,
    options: &RunOptions,
) -> Result<RunAnswer> {
    if !options.watch || common.json || !can_show() {
        return access.ask(request, common).await;
    }
    let (sender, mut events) = mpsc::unbounded_channel();
    let sink = move |event: Event| {
        // The one who reads may have ended: then nobody wants it.
        let _ = sender.send(event);
    };
    let mut call = access.access().call(request, Arc::new(sink)).boxed();
    let mut table = Table::new(access, &options.signature);
    let early = table.until(&mut call, &mut events).await;
    drop(table);
    let answer = match early {
        Ended::Answered(answer) => answer?,
        Ended::Left => {
            output::say("left the table; the run goes on here, line by line");
            let watcher = Watcher::new(common);
            loop {
                tokio::select! {
                    answer = &mut call => break answer?,
                    Some(event) = events.recv() => watcher.tell(event),
                }
            }
        }
        Ended::Failed(failure) => return Err(failure),
    };
    serde_json::from_value(answer).map_err(not_understood)
}

fn not_understood(error: serde_json::Error) -> Failure {
    Failure::diverged(format!("the answer of the vault's holder is not understood: {error}"))
}

/// Looks at a run that somebody else drives, or nobody.
pub async fn watch(common: &Common, run: Option<String>, signature: &Signature) -> Result<Exit> {
    if common.json || !can_show() {
        return Err(Failure::permanent("a live table needs a terminal").help("`muster log RUN` prints the journal"));
    }
    let access = open::reading(common, None).await?;
    let mut table = Table::new(&access, signature);
    let shown = table.look(run.map(RunId::new)).await;
    let state = table.state.take();
    drop(table);
    access.close().await;
    shown?;
    Ok(match state.and_then(|state| Some((state.run, state.closed?.0))) {
        Some((run, status)) => {
            output::data(format!("run {run}: {status}"));
            if status == RunStatus::Done { Exit::Done } else { Exit::Failed }
        }
        None => Exit::Done,
    })
}

/// Both ends of a terminal, one that can place a cursor.
fn can_show() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    !dumb && std::io::stderr().is_terminal() && std::io::stdin().is_terminal()
}

enum Ended {
    Answered(Result<serde_json::Value>),
    Left,
    Failed(Failure),
}

type Reply<'a> = BoxFuture<'a, Result<serde_json::Value>>;

/// The table with what feeds it.
struct Table<'a> {
    access: &'a open::Opened,
    signature: &'a Signature,
    state: Option<State>,
    replies: FuturesUnordered<Reply<'a>>,
}

impl<'a> Table<'a> {
    fn new(access: &'a open::Opened, signature: &'a Signature) -> Self {
        Self { access, signature, state: None, replies: FuturesUnordered::new() }
    }

    /// Until the request is answered, or the person leaves.
    async fn until(&mut self, call: &mut Reply<'_>, events: &mut mpsc::UnboundedReceiver<Event>) -> Ended {
        let (mut screen, mut keys) = match Screen::open() {
            Ok(opened) => opened,
            Err(failure) => return Ended::Failed(failure.during("show a table")),
        };
        let mut killed = match Killed::new() {
            Ok(killed) => killed,
            Err(failure) => return Ended::Failed(failure),
        };
        loop {
            if let Err(failure) = self.draw(&mut screen) {
                return Ended::Failed(failure);
            }
            tokio::select! {
                biased;
                number = killed.any() => end_by(screen, SIGNAL_CODE + number),
                Some(key) = keys.recv() => match self.press(key) {
                    Some(Act::Leave) => return Ended::Left,
                    Some(Act::Interrupt) => end_by(screen, SIGNAL_CODE + INTERRUPT),
                    _ => {}
                },
                Some(event) = events.recv() => {
                    self.take(event).await;
                    // All that is there before the next drawing: a thousand records make no thousand pictures.
                    while let Ok(event) = events.try_recv() {
                        self.take(event).await;
                    }
                }
                Some(reply) = self.replies.next(), if !self.replies.is_empty() => self.replied(&reply),
                answer = &mut *call => return Ended::Answered(answer),
                () = SystemClock.sleep(TICK) => {}
            }
        }
    }

    /// Until the run has ended, or the person leaves.
    async fn look(&mut self, run: Option<RunId>) -> Result<()> {
        self.reread(run).await?;
        let (mut screen, mut keys) = Screen::open()?;
        let mut killed = Killed::new()?;
        let mut due = SystemClock.now().plus(LOOK);
        loop {
            self.draw(&mut screen)?;
            let Some(state) = &self.state else { return Ok(()) };
            if state.closed.is_some() {
                return Ok(());
            }
            tokio::select! {
                biased;
                number = killed.any() => end_by(screen, SIGNAL_CODE + number),
                Some(key) = keys.recv() => match self.press(key) {
                    Some(Act::Leave) => return Ok(()),
                    Some(Act::Interrupt) => end_by(screen, SIGNAL_CODE + INTERRUPT),
                    _ => {}
                },
                Some(reply) = self.replies.next(), if !self.replies.is_empty() => self.replied(&reply),
                () = SystemClock.sleep_until(due) => {
                    self.read_on().await?;
                    due = SystemClock.now().plus(LOOK);
                }
                () = SystemClock.sleep(TICK) => {}
            }
        }
    }

    fn draw(&self, screen: &mut Screen) -> Result<()> {
        let now = SystemClock.now();
        screen.draw(|area, buffer| {
            if let Some(state) = &self.state {
                watch_view::render(state, now, area, buffer);
            }
        })
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Run { run, record } => {
                let amended = matches!(record.event, Recorded::Amended { .. });
                let taken = self.state.as_mut().is_some_and(|state| state.take(&record));
                if (amended || !taken)
                    && let Err(failure) = self.reread(Some(run)).await
                    && let Some(state) = &mut self.state
                {
                    state.message = failure.message;
                }
            }
            Event::Progress { what, done, total } => {
                if let Some(state) = &mut self.state {
                    state.progress(&what, done, total);
                }
            }
            Event::Note { text } => {
                if let Some(state) = &mut self.state {
                    state.message = text;
                }
            }
            Event::Taken | Event::Done { .. } | Event::Failed { .. } => {}
        }
    }

    /// Takes in what was recorded since.
    async fn read_on(&mut self) -> Result<()> {
        let Some(state) = &mut self.state else { return Ok(()) };
        let run = state.run.clone();
        let request = Request::Log { run: Some(run.clone()), after: state.newest() };
        let log = self.access.access().call(&request, Arc::new(|_| {})).await?;
        let log: LogAnswer = serde_json::from_value(log).map_err(not_understood)?;
        let mut whole = false;
        for record in &log.records {
            // Another sheet is in force from here on.
            whole |= matches!(record.event, Recorded::Amended { .. }) || !state.take(record);
        }
        if whole { self.reread(Some(run)).await } else { Ok(()) }
    }

    /// Reads the run from its journal and keeps what the person was about to do.
    async fn reread(&mut self, run: Option<RunId>) -> Result<()> {
        let dossier = self.access.access().call(&Request::Dossier { run }, Arc::new(|_| {})).await?;
        let dossier: DossierAnswer = serde_json::from_value(dossier).map_err(not_understood)?;
        let before = self.state.take();
        let mut state = match before {
            Some(state) if state.run == dossier.run && state.sheet == dossier.sheet.hash() => state,
            before => {
                let mut state = State::new(&dossier.run, &dossier.sheet, &self.estimates(&dossier.sheet).await);
                state.may_speak = !matches!(self.access.access(), muster_control::Access::Reader(_));
                if let Some(before) = before.filter(|before| before.run == dossier.run) {
                    (state.prompt, state.chosen, state.message) = (before.prompt, before.chosen, before.message);
                }
                state
            }
        };
        for record in &dossier.records {
            state.take(record);
        }
        self.state = Some(state);
        Ok(())
    }

    /// By past runs, as `dry-run` estimates; by the sheet alone where they cannot be read.
    async fn estimates(&self, sheet: &Runsheet) -> Estimates {
        let request = Request::Evidence { plan: sheet.plan.clone() };
        let known = self.access.access().call(&request, Arc::new(|_| {})).await;
        let evidence: Evidence = known.ok().and_then(|known| serde_json::from_value(known).ok()).unwrap_or_default();
        let (estate, conditions) = (Estate::default(), Conditions::default());
        let dice = foresee::dice();
        let question = Question { sheet, estate: &estate, evidence: &evidence, conditions: &conditions, dice };
        let estimate = Forecast::of(question).estimate;
        let steps = estimate.steps.iter().filter(|span| span.start.is_some());
        Estimates {
            steps: steps.map(|span| (span.id.clone(), span.took.0)).collect(),
            whole: estimate.whole.map(|whole| whole.0),
        }
    }

    /// What is left for the loop to do: leaving.
    fn press(&mut self, key: super::watch_state::Key) -> Option<Act> {
        let Some(state) = &mut self.state else {
            use super::watch_state::Key;
            return match key {
                Key::Quit => Some(Act::Leave),
                Key::Interrupt => Some(Act::Interrupt),
                _ => None,
            };
        };
        let act = state.press(key)?;
        let run = state.run.clone();
        let who = open::who(self.signature);
        let why = self.signature.why.clone();
        let request = match act {
            Act::Leave | Act::Interrupt => return Some(act),
            Act::Answer { step, yes } => Request::Answer { run, step, answer: Answer { yes, who, why } },
            Act::Pause => Request::Pause { run, who, why },
            Act::Resume => Request::Resume { run: Some(run), wait: true, by: Some(Signed { who, why }) },
        };
        let access = self.access.access();
        self.replies.push(async move { access.call(&request, Arc::new(|_| {})).await }.boxed());
        None
    }

    fn replied(&mut self, reply: &Result<serde_json::Value>) {
        if let Some(state) = &mut self.state {
            state.message = match reply {
                Ok(_) => "recorded".to_owned(),
                Err(failure) => failure.message.clone(),
            };
        }
    }
}

/// Signals that end a process: the terminal is given back first.
struct Killed {
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Killed {
    fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
    async fn any(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.hangup.recv() => SignalKind::hangup().as_raw_value(),
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        }
    }
}

/// As the signal would have ended the process without a table: at once, and safe, since the journal has all.
fn end_by(screen: Screen, code: i32) -> ! {
    drop(screen);
    output::say("interrupted; `muster resume` goes on with what this process was doing");
    std::process::exit(code)
}

impl std::fmt::Debug for Table<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("state", &self.state).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Killed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Killed")
    }
}
