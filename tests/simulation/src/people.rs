//! The people of a simulation: late, silent, contrary, and always truthful.
//!
//! Who signs that machines are off has switched them off; who says that something was done by hand may only say so of
//! what changes no machine.

use crate::life::Ground;
use crate::tally;
use muster_executor::{Command, CommandSender, Waiting};
use muster_journal::{Answer, Decision, Question, QuestionKind};
use muster_ports::*;
use muster_provider_simulated::SeededRandom;
use muster_runsheet::{Action, NodeKind, Runsheet, StepId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// A whole run is stopped, or given up, by somebody who was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meddling {
    Pause,
    Cancel,
}

/// In a thousand questions or decisions each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Longest time to an answer.
    pub delay: Duration,
    /// Answers after hours.
    pub late: u64,
    pub never: u64,
    /// Says no to a question.
    pub no: u64,
    /// Decides something else than to try again.
    pub odd: u64,
    pub abort: u64,
    pub meddling: Option<(Duration, Meddling)>,
}

impl Manner {
    /// Says yes, and to try again, at once.
    pub fn calm() -> Self {
        Self { delay: Duration::from_secs(1), ..Self::default() }
    }
}

/// Something that a person may move.
#[derive(Clone, Debug)]
pub enum Heard {
    Question {
        node: StepId,
        question: Question,
    },
    /// A step waits for a decision; in `undo`, one that could not be taken back.
    Stopped {
        node: StepId,
        undo: bool,
    },
    /// The whole run is paused.
    Held,
}

impl Heard {
    pub fn of(waiting: &Waiting) -> Self {
        match waiting {
            Waiting::Question { node, question, .. } => {
                Self::Question { node: node.clone(), question: question.clone() }
            }
            Waiting::Decision { node, .. } => Self::Stopped { node: node.clone(), undo: false },
            Waiting::Stuck { node, .. } => Self::Stopped { node: node.clone(), undo: true },
            Waiting::Run { .. } => Self::Held,
        }
    }
}

/// Decisions after which nobody has patience any more: something does not get better by trying again.
pub const DECISIONS_MAX: u64 = 400;

#[derive(Clone, Debug)]
pub struct People {
    sheet: Arc<Runsheet>,
    manner: Manner,
    random: Arc<SeededRandom>,
    decided: Arc<AtomicU64>,
    meddled: Arc<AtomicBool>,
}

const SOMEBODY: &str = "anna";

impl People {
    pub fn new(sheet: &Arc<Runsheet>, manner: Manner, seed: u64) -> Self {
        let random = Arc::new(SeededRandom::new(seed.wrapping_add(99)));
        Self { sheet: sheet.clone(), manner, random, decided: Arc::default(), meddled: Arc::default() }
    }
    pub fn decisions(&self) -> u64 {
        self.decided.load(Ordering::SeqCst)
    }
    fn chance(&self, per_mille: u64) -> bool {
        self.random.below(1000) < per_mille
    }
    fn delay(&self, ground: &Ground) -> Duration {
        let most = u64::try_from(self.manner.delay.as_millis()).unwrap_or(u64::MAX);
        let late = if self.chance(self.manner.late) {
            ground.tally.note(tally::PERSON_LATE);
            Duration::from_secs(3 * 3600)
        } else {
            Duration::ZERO
        };
        Duration::from_millis(1 + self.random.below(most)) + late
    }

    /// Who answers a question: as many members of the team as have to agree.
    fn who(&self, question: &Question) -> Vec<String> {
        let split_brain = question.kind == QuestionKind::SplitBrain;
        let team = if split_brain { self.sheet.owner.clone() } else { Some(question.to.clone()) };
        let team = team.and_then(|team| self.sheet.teams.get(&team));
        let Some(team) = team.filter(|team| !team.members.is_empty()) else { return vec![SOMEBODY.to_owned()] };
        let enough = if split_brain { 1 } else { usize::try_from(team.quorum).unwrap_or(1).max(1) };
        team.members.iter().take(enough).cloned().collect()
    }

    pub fn meddle(&self, ground: &Ground, sender: &CommandSender, words: &mut JoinSet<()>) {
        let Some((after, what)) = self.manner.meddling else { return };
        if self.meddled.swap(true, Ordering::SeqCst) {
            return;
        }
        ground.tally.note(tally::PERSON_MEDDLES);
        let (who, why) = (SOMEBODY.to_owned(), "to see what happens".to_owned());
        let command = match what {
            Meddling::Pause => Command::Pause { who, why },
            Meddling::Cancel => Command::Cancel { who, why },
        };
        say(ground, sender, after, vec![command], words);
    }

    pub fn hear(&self, what: Heard, ground: &Ground, sender: &CommandSender, words: &mut JoinSet<()>) {
        if self.chance(self.manner.never) {
            ground.tally.note(tally::PERSON_NEVER);
            return;
        }
        let (who, why) = (SOMEBODY.to_owned(), String::new());
        let commands = match what {
            Heard::Held => vec![Command::Resume { who, why }],
            Heard::Question { node, question } => {
                let no = self.chance(self.manner.no);
                if no {
                    ground.tally.note(tally::PERSON_NO);
                }
                if !no && question.kind == QuestionKind::SplitBrain {
                    self.pull_the_plug(ground);
                }
                let answer = |who| Answer { yes: !no, who, why: String::new() };
                let command = |who| Command::Answer { node: node.clone(), answer: answer(who) };
                self.who(&question).into_iter().map(command).collect()
            }
            Heard::Stopped { node, undo } => {
                if self.decided.fetch_add(1, Ordering::SeqCst) >= DECISIONS_MAX {
                    return;
                }
                let decision = self.decision(&node, undo);
                match decision {
                    Decision::Skip => ground.tally.note(tally::PERSON_SKIPS),
                    Decision::DoneByHand => ground.tally.note(tally::PERSON_BY_HAND),
                    Decision::Redo => ground.tally.note(tally::PERSON_REDOES),
                    Decision::Abort => ground.tally.note(tally::PERSON_ABORTS),
                    Decision::Retry => {}
                }
                vec![Command::Decide { node, decision, who, why }]
            }
        };
        say(ground, sender, self.delay(ground), commands, words);
    }

    fn decision(&self, node: &StepId, undo: bool) -> Decision {
        if undo {
            return Decision::Retry;
        }
        if self.chance(self.manner.abort) {
            return Decision::Abort;
        }
        let harmless = self.sheet.node(node).is_some_and(|node| {
            matches!(node.kind, NodeKind::Check | NodeKind::Hook | NodeKind::Note)
                || matches!(node.action, Action::Approve { .. } | Action::Manual { .. })
        });
        if !harmless || !self.chance(self.manner.odd) {
            return Decision::Retry;
        }
        match self.random.below(3) {
            0 => Decision::Skip,
            1 => Decision::DoneByHand,
            _ => Decision::Redo,
        }
    }

    /// Whoever signs for it has been at the source and switched everything off.
    fn pull_the_plug(&self, ground: &Ground) {
        if let Some(source) = ground.stage.providers().get(&self.sheet.source) {
            for machine in source.live_machines_on() {
                source.kill(&InstanceName::live(&machine)).expect("a machine loses its power");
            }
        }
    }
}

/// A refused word is no harm: what it was about has moved on.
fn say(ground: &Ground, sender: &CommandSender, after: Duration, commands: Vec<Command>, words: &mut JoinSet<()>) {
    let (clock, sender) = (ground.stage.clock(), sender.clone());
    words.spawn(async move {
        clock.sleep(after).await;
        for command in commands {
            let _ = sender.send(command).await;
        }
    });
}
