//! What people may say to a run, and whether it may be said now.

use crate::chart::{Chart, Way, way};
use crate::decide::close;
use muster_journal::{Answer, Decision, Event, NodeState, Question, RunState, RunStatus, Signed, Stand};
use muster_ports::{Failure, Timestamp};
use muster_runsheet::{Action, NodeKind, StepId};
use tokio::sync::{mpsc, oneshot};

/// Commands on their way to one run. People are slow; a script that floods is made to wait.
const COMMANDS_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start nothing more; what runs goes on to its end.
    Pause {
        who: String,
        why: String,
    },
    Resume {
        who: String,
        why: String,
    },
    /// Give up and take everything back. Only before the point of no return.
    Cancel {
        who: String,
        why: String,
    },
    Decide {
        node: StepId,
        decision: Decision,
        who: String,
        why: String,
    },
    Answer {
        node: StepId,
        answer: Answer,
    },
    /// Put another runsheet (as JSON) in the place of this one: only steps that have not begun may differ.
    Amend {
        sheet: String,
        who: String,
        why: String,
    },
    /// Past no return: close the run as it stands, so that another one can go on from there. Nothing may be in flight.
    LeaveOpen {
        who: String,
        why: String,
    },
}

/// A command with the way back for its acceptance.
#[derive(Debug)]
pub struct Order {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Result<(), Failure>>,
}

/// Speaks to a run that is being driven in this process.
#[derive(Clone, Debug)]
pub struct CommandSender(mpsc::Sender<Order>);

pub type CommandReceiver = mpsc::Receiver<Order>;

pub fn commands() -> (CommandSender, CommandReceiver) {
    let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
    (CommandSender(sender), receiver)
}

impl CommandSender {
    /// Returns once the command is durable, or says why it is not possible now.
    pub async fn send(&self, command: Command) -> Result<(), Failure> {
        let gone = |()| Failure::refused("the run is not being driven any more");
        let (reply, accepted) = oneshot::channel();
        self.0.send(Order { command, reply }).await.map_err(|_| gone(()))?;
        accepted.await.map_err(|_| gone(()))?
    }
}

/// Something only a person can move.
#[derive(Clone, Debug, PartialEq)]
pub enum Waiting {
    Question {
        node: StepId,
        question: Question,
        until: Option<Timestamp>,
        /// Who has said yes already, of so many that have to.
        agreed: Vec<String>,
        quorum: usize,
    },
    Decision {
        node: StepId,
        why: Failure,
        choices: Vec<Decision>,
    },
    /// The step could not be taken back.
    Stuck {
        node: StepId,
        why: Failure,
        choices: Vec<Decision>,
    },
    /// The whole run is paused.
    Run {
        by: Signed,
    },
}

const STUCK_CHOICES: [Decision; 3] = [Decision::Retry, Decision::Skip, Decision::DoneByHand];

/// Everything that waits for a person, in the order of the runsheet.
pub fn waiting(chart: &Chart, state: &RunState) -> Vec<Waiting> {
    let why = |node: &NodeState| node.failure.clone().unwrap_or_else(|| Failure::permanent("no reason was recorded"));
    let mut found: Vec<Waiting> = state.paused.iter().map(|by| Waiting::Run { by: by.clone() }).collect();
    for (at, node) in state.nodes().enumerate() {
        let id = node.id.clone();
        match node.stand {
            // Once steps are taken back, only what is stuck there matters.
            Stand::Stuck => found.push(Waiting::Stuck { node: id, why: why(node), choices: STUCK_CHOICES.to_vec() }),
            _ if state.undo.is_some() => {}
            Stand::Paused => {
                found.push(Waiting::Decision { node: id, why: why(node), choices: choices(chart, state, at) });
            }
            Stand::Asking => {
                if let Some(question) = node.question.clone() {
                    let agreed = node.agreed.iter().map(|answer| answer.who.clone()).collect();
                    let quorum = node.team.quorum;
                    found.push(Waiting::Question { node: id, question, until: node.deadline, agreed, quorum });
                }
            }
            _ => {}
        }
    }
    found
}

/// What may be decided about a paused step.
fn choices(chart: &Chart, state: &RunState, at: usize) -> Vec<Decision> {
    let mut choices = vec![Decision::Retry];
    if may_skip(&chart.node(at).action) {
        choices.push(Decision::Skip);
    }
    choices.extend([Decision::DoneByHand, Decision::Redo]);
    if state.no_return.is_none() {
        choices.push(Decision::Abort);
    }
    choices
}

/// Leaving these out is how two sites come to run one machine: a person may only say that they have been done.
fn may_skip(action: &Action) -> bool {
    !matches!(action, Action::Fence { .. } | Action::Lock { .. })
}

fn refuse<T>(message: String, help: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::refused(message).help(help))
}

fn words(choices: &[Decision]) -> String {
    choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ")
}

/// The records a command makes, or why it is not possible now and what is.
pub fn accept(chart: &Chart, state: &RunState, command: &Command) -> Result<Vec<Event>, Failure> {
    if state.is_closed() {
        return refuse(format!("run `{}` has ended: {}", state.run, state.status), "`muster log` tells how");
    }
    match command {
        Command::Pause { who, why } => match &state.paused {
            Some(by) => refuse(format!("the run is paused already, by {}", by.who), "`muster resume` lets it go on"),
            None => Ok(vec![Event::RunPaused { who: who.clone(), why: why.clone() }]),
        },
        Command::Resume { who, why } => match &state.paused {
            Some(_) => Ok(vec![Event::RunResumed { who: who.clone(), why: why.clone() }]),
            None => refuse("the run is not paused".to_owned(), "steps that wait are moved by `decide` or `approve`"),
        },
        Command::Cancel { who, why } => Ok(vec![give_up(state, who, why)?]),
        Command::Decide { node, decision, who, why } => decided(chart, state, node, *decision, who, why),
        Command::Answer { node, answer } => answered(chart, state, node, answer),
        Command::Amend { sheet, who, why } => {
            let sheet = amended(sheet)?;
            let changes = muster_journal::amend::changes(chart.sheet(), &sheet, state)?;
            if changes.is_empty() {
                return refuse("the sheet changes nothing of this run".to_owned(), "`muster diff` compares two sheets");
            }
            let (before, after) = (chart.sheet().hash(), sheet.hash());
            let text = muster_runsheet::Hash::of(sheet.to_json());
            Ok(vec![Event::Amended { before, after, text, changes, who: who.clone(), why: why.clone() }])
        }
        Command::LeaveOpen { who, why } => leave_open(state, who, why),
    }
}

/// The sheet of an amendment.
pub(crate) fn amended(text: &str) -> Result<muster_runsheet::Runsheet, Failure> {
    let read = muster_runsheet::Runsheet::from_json(text);
    read.map_err(|error| Failure::refused(format!("the run cannot be amended: {error}")))
}

fn leave_open(state: &RunState, who: &str, why: &str) -> Result<Vec<Event>, Failure> {
    if state.no_return.is_none() {
        return refuse(
            format!("run `{}` has not passed the point of no return", state.run),
            "cancel it: everything is taken back; then begin anew with the point that you want",
        );
    }
    let (who, why) = (who.to_owned(), why.to_owned());
    Ok(vec![Event::LeftOpen { who, why }, close(state, RunStatus::Failed, state.time)])
}

fn give_up(state: &RunState, who: &str, why: &str) -> Result<Event, Failure> {
    if state.undo.is_some() {
        return refuse("the run is being taken back already".to_owned(), "`muster status` shows how far it is");
    }
    if state.no_return.is_some() {
        return refuse(
            "the point of no return has passed: steps cannot be taken back one by one any more".to_owned(),
            "go forward with `decide` (`retry`, `skip`, `done-by-hand`, `redo`) or pause the run; once it has ended, \
             `muster cancel` takes the whole failover back as long as it is not committed",
        );
    }
    let why = if why.is_empty() { "given up".to_owned() } else { why.to_owned() };
    let by = Some(Signed { who: who.to_owned(), why: why.clone() });
    Ok(Event::UndoBegun { by, why })
}

fn find<'a>(chart: &Chart, state: &'a RunState, id: &StepId) -> Result<(usize, &'a NodeState), Failure> {
    let found = chart.place(id).and_then(|at| Some((at, state.node_at(at)?)));
    found.ok_or_else(|| {
        let waits: Vec<_> = state.nodes().filter(|node| node.stand.waits_for_person()).collect();
        let help = match waits.as_slice() {
            [] => "no step waits for a person now".to_owned(),
            some => some.iter().map(|node| format!("`{}`", node.id)).collect::<Vec<_>>().join(", ") + " waits",
        };
        Failure::refused(format!("this run has no step `{id}`")).help(help)
    })
}

fn decided(
    chart: &Chart,
    state: &RunState,
    id: &StepId,
    decision: Decision,
    who: &str,
    why: &str,
) -> Result<Vec<Event>, Failure> {
    let (at, node) = find(chart, state, id)?;
    let record = Event::Decided { node: id.clone(), decision, who: who.to_owned(), why: why.to_owned() };
    let possible = match node.stand {
        Stand::Stuck => STUCK_CHOICES.to_vec(),
        _ if state.undo.is_some() => Vec::new(),
        Stand::Paused => choices(chart, state, at),
        _ if node.stand.has_ended() && may_redo(chart, state, at) => vec![Decision::Redo],
        _ => Vec::new(),
    };
    if decision == Decision::Abort && node.stand == Stand::Paused {
        return Ok(vec![record, give_up(state, who, why)?]);
    }
    if possible.contains(&decision) {
        return Ok(vec![record]);
    }
    let help = match (possible.as_slice(), &chart.node(at).action) {
        ([], _) => "nothing can be decided about it now; `muster status` shows what waits".to_owned(),
        (some, Action::Fence { .. }) if decision == Decision::Skip => {
            format!("possible: {}; `done-by-hand` says that you have made sure that the machines are off", words(some))
        }
        (some, _) => format!("possible: {}", words(some)),
    };
    refuse(format!("`{decision}` is not possible for `{id}`, which is {}", node.stand.word()), help)
}

/// Something that has ended may be done again while nothing after it has begun.
fn may_redo(chart: &Chart, state: &RunState, at: usize) -> bool {
    let way = way(chart.node(at));
    matches!(way, Way::Runner | Way::Person)
        && chart.node(at).kind != NodeKind::Barrier
        && chart.after(at).iter().all(|&next| state.node_at(next).is_some_and(|next| next.stand == Stand::Waiting))
}

fn answered(chart: &Chart, state: &RunState, id: &StepId, answer: &Answer) -> Result<Vec<Event>, Failure> {
    let (_, node) = find(chart, state, id)?;
    if node.stand != Stand::Asking {
        let stand = node.stand.word();
        return refuse(format!("`{id}` asks nothing now: it is {stand}"), "`muster status` shows what waits");
    }
    if state.undo.is_some() {
        return refuse(format!("`{id}` needs no answer any more"), "the run is being taken back");
    }
    let team = &node.team;
    let Some(member) = team.member(&answer.who) else {
        return refuse(
            format!("`{}` may not answer `{id}`: it is for `{}`", answer.who, team.name),
            format!("its members: {}; say which one you are with `--by`", team.members.join(", ")),
        );
    };
    if answer.yes && node.agreed.iter().any(|said| said.who == member) {
        return refuse(
            format!("`{member}` has said yes to `{id}` already, and {} have to agree", team.quorum),
            format!("another member of `{}` has to answer: {}", team.name, team.members.join(", ")),
        );
    }
    let answer = Answer { who: member, ..answer.clone() };
    Ok(vec![Event::Answered { node: id.clone(), answer }])
}
