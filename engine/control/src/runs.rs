//! Runs inside the holder: started, followed, spoken to.
//!
//! A run goes on when whoever asked for it goes away. It ends with the process, and any later process resumes it.

use crate::answers::{ChosenPoint, End, RunAnswer, Waiting};
use crate::request::{Event, Sink};
use muster_executor::{
    Command, CommandSender, Executor, OnPause, RunEnd, RunObserver, Waiting as WaitingFor, commands,
};
use muster_journal::{Answer, Decision, Opening, Record, RunState, RunStatus, Signed};
use muster_ports::*;
use muster_runsheet::Runsheet;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How whoever asked follows a run.
#[derive(Clone)]
pub struct Follow {
    pub sink: Arc<dyn Sink>,
    /// Stay when only a person can go on, and listen for their word.
    pub wait: bool,
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("wait", &self.wait).finish_non_exhaustive()
    }
}

/// All runs this process works on.
#[derive(Debug)]
pub struct ActiveRuns {
    executor: Arc<Executor>,
    clock: Arc<dyn Clock>,
    speaking: Arc<Mutex<BTreeMap<RunId, CommandSender>>>,
}

impl ActiveRuns {
    pub fn new(executor: Arc<Executor>, clock: Arc<dyn Clock>) -> Self {
        Self { executor, clock, speaking: Arc::default() }
    }

    pub(crate) fn executor(&self) -> &Executor {
        &self.executor
    }

    pub async fn start(&self, sheet: Runsheet, opening: Opening, follow: Follow) -> Result<RunAnswer> {
        let run = self.executor.open_run(&sheet, opening).await?;
        let loaded = self.executor.runs().load(&run).await?;
        for record in loaded.records {
            follow.sink.tell(Event::Run { run: run.clone(), record: Box::new(record) });
        }
        self.drive(run, follow).await
    }

    /// Takes up a run that was left in the middle: the named one, or the newest.
    pub async fn resume(&self, run: Option<RunId>, by: Option<Signed>, follow: Follow) -> Result<RunAnswer> {
        let run = match run {
            Some(run) => run,
            None => {
                let open = self.executor.runs().list().await?.into_iter().rfind(|run| run.status == RunStatus::Open);
                let none = || Failure::refused("no run is unfinished").help("`muster runs` lists them all");
                open.ok_or_else(none)?.id
            }
        };
        let loaded = self.executor.runs().load(&run).await?;
        if loaded.state.is_closed() {
            return Err(Failure::refused(format!("run `{run}` has ended: {}", loaded.state.status))
                .help(format!("`muster log {run}` tells how")));
        }
        // Somebody who says "resume" also takes back the "pause" of the whole run.
        if loaded.state.paused.is_some() {
            let by = by.unwrap_or_else(|| Signed { who: "muster resume".into(), why: String::new() });
            if self.say(&run, Command::Resume { who: by.who, why: by.why }).await? {
                return self.followed(&run).await;
            }
        }
        self.drive(run, follow).await
    }

    /// Begins no further step; whether somebody here is driving the run.
    pub async fn pause(&self, run: &RunId, who: String, why: String) -> Result<bool> {
        self.say(run, Command::Pause { who, why }).await
    }

    /// Puts another sheet in the place of the one that is carried out.
    pub async fn amend(&self, run: &RunId, sheet: &Runsheet, who: String, why: String) -> Result<bool> {
        self.say(run, Command::Amend { sheet: sheet.to_json(), who, why }).await
    }

    /// Past no return: closes a run that is stuck, for another one to go on from there.
    pub async fn leave_open(&self, run: &RunId, who: &str, why: &str) -> Result<()> {
        let command = Command::LeaveOpen { who: who.to_owned(), why: why.to_owned() };
        if self.say(run, command).await? {
            self.followed(run).await?;
        }
        Ok(())
    }

    /// Whoever drives a run follows it; here only its end is of interest.
    async fn followed(&self, run: &RunId) -> Result<RunAnswer> {
        while self.sender(run).is_some() {
            self.clock.sleep(std::time::Duration::from_millis(100)).await;
        }
        self.answer(run, None).await
    }

    /// Stops an unfinished run; before no return everything is taken back, which is followed to its end.
    pub async fn cancel(&self, run: RunId, who: &str, why: &str, follow: Follow) -> Result<RunAnswer> {
        let command = Command::Cancel { who: who.to_owned(), why: why.to_owned() };
        if self.say(&run, command).await? {
            return self.followed(&run).await;
        }
        self.drive(run, follow).await
    }

    pub async fn decide(
        &self,
        run: &RunId,
        node: StepId,
        decision: Decision,
        who: String,
        why: String,
    ) -> Result<bool> {
        self.say(run, Command::Decide { node, decision, who, why }).await
    }

    pub async fn answer_question(&self, run: &RunId, node: StepId, answer: Answer) -> Result<bool> {
        self.say(run, Command::Answer { node, answer }).await
    }

    fn sender(&self, run: &RunId) -> Option<CommandSender> {
        self.speaking.lock().unwrap_or_else(PoisonError::into_inner).get(run).cloned()
    }

    /// Says something to a run; whether somebody here is driving it.
    async fn say(&self, run: &RunId, command: Command) -> Result<bool> {
        match self.sender(run) {
            Some(sender) => {
                sender.send(command).await?;
                Ok(true)
            }
            None => {
                self.executor.decide_offline(run, &command).await?;
                Ok(false)
            }
        }
    }

    async fn drive(&self, run: RunId, follow: Follow) -> Result<RunAnswer> {
        let (sender, receiver) = commands();
        let observer = Arc::new(Watch { run: run.clone(), sink: follow.sink.clone() });
        let speaking = Speaking::new(self.speaking.clone(), run.clone(), sender);
        let on_pause = if follow.wait { OnPause::Wait } else { OnPause::Return };
        let executor = self.executor.clone();
        // On a task of its own: the run goes on when the one who asked for it is gone.
        let driven = {
            let run = run.clone();
            tokio::spawn(async move {
                let _speaking = speaking;
                executor.drive(&run, receiver, observer, on_pause).await
            })
        };
        let end = driven.await.map_err(|error| Failure::diverged(format!("run `{run}` broke off: {error}")))??;
        self.answer(&run, Some(end)).await
    }

    async fn answer(&self, run: &RunId, end: Option<RunEnd>) -> Result<RunAnswer> {
        let state = self.executor.runs().load(run).await?.state;
        let waiting = match &end {
            Some(RunEnd::Paused { waiting }) => waiting.clone(),
            _ => self.executor.waiting(run).await?,
        };
        Ok(run_answer(run, &state, waiting, self.clock.now()))
    }
}

fn run_answer(run: &RunId, state: &RunState, waiting: Vec<WaitingFor>, now: Timestamp) -> RunAnswer {
    let end = match state.status {
        RunStatus::Open => End::Paused,
        RunStatus::Done => End::Done { degraded: !state.degraded().is_empty() },
        RunStatus::Undone => End::Undone,
        RunStatus::Aborted => End::Aborted,
        RunStatus::Failed => End::Failed,
    };
    let points = state.points.iter().map(|(group, chosen)| {
        let chosen = ChosenPoint { point: chosen.point.clone(), at: chosen.at, loss_millis: chosen.loss_millis };
        (group.clone(), chosen)
    });
    let elapsed = state.closed_at.unwrap_or(now).since(state.opened_at);
    RunAnswer {
        run: run.clone(),
        plan: state.plan.clone(),
        operation: state.operation,
        end,
        elapsed_millis: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        steps: u32::try_from(state.nodes().filter(|node| node.attempted()).count()).unwrap_or(u32::MAX),
        waiting: waiting.into_iter().map(|waiting| in_words(run, waiting)).collect(),
        points: points.collect(),
    }
}

fn in_words(run: &RunId, waiting: WaitingFor) -> Waiting {
    match waiting {
        WaitingFor::Question { node, question, agreed, quorum, .. } => Waiting {
            ways: format!("muster approve {run} {node} --by NAME   (or --no)"),
            help: None,
            text: match quorum {
                0 | 1 => format!("asks {}: {}", question.to, question.text),
                _ => {
                    let who = if agreed.is_empty() { String::new() } else { format!(" ({})", agreed.join(", ")) };
                    let count = format!("{} of {quorum} have agreed{who}", agreed.len());
                    format!("asks {}: {} {count}", question.to, question.text)
                }
            },
            step: node,
        },
        WaitingFor::Decision { node, why, choices } | WaitingFor::Stuck { node, why, choices } => {
            let words: Vec<&str> = choices.iter().map(|choice| choice.word()).collect();
            Waiting {
                ways: format!("muster decide {run} {node} {} --by NAME", words.join("|")),
                text: why.message,
                help: why.help,
                step: node,
            }
        }
        WaitingFor::Run { by } => Waiting {
            step: StepId::new("run"),
            text: format!("paused by {}: {}", by.who, by.why),
            help: None,
            ways: format!("muster resume {run}"),
        },
    }
}

/// Takes a run's sender out of the table when its driver is gone, however it went.
struct Speaking {
    all: Arc<Mutex<BTreeMap<RunId, CommandSender>>>,
    run: RunId,
}

impl Speaking {
    fn new(all: Arc<Mutex<BTreeMap<RunId, CommandSender>>>, run: RunId, sender: CommandSender) -> Self {
        all.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone(), sender);
        Self { all, run }
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.run);
    }
}

/// Passes records on as events.
struct Watch {
    run: RunId,
    sink: Arc<dyn Sink>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("run", &self.run).finish_non_exhaustive()
    }
}

impl RunObserver for Watch {
    fn recorded(&self, record: &Record, _state: &RunState) {
        self.sink.tell(Event::Run { run: self.run.clone(), record: Box::new(record.clone()) });
    }

    fn progress(&self, step: &StepId, done: u64, total: Option<u64>) {
        self.sink.tell(Event::Progress { what: step.to_string(), done, total });
    }
}
