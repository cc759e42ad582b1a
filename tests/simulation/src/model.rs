//! What a run of a runsheet means, said once more: one step after the other, without tasks, stores, keys or time.
//!
//! It is written from the book's words about steps, failures and people, not from the executor, and is small enough to be
//! read in one go. A sheet's nodes must stand in an order that its edges allow.

use muster_journal::{Decision, Stand};
use muster_ports::FailureClass;
use muster_runsheet::{Action, EdgeKind, Node, NodeKind, Otherwise, Runsheet};
use std::collections::{BTreeMap, BTreeSet};

/// What somebody says to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Yes,
    No,
    /// Nothing, until its time is up.
    Nothing,
}

/// How a step and the people around it behave.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// It fails in this way until people have said so often that it shall be tried again.
    pub broken: Option<(FailureClass, u32)>,
    /// Attempts that fail in a way that passes; never more than the sheet allows.
    pub stumbles: u32,
    /// What is said each time it is asked; yes when there is no more.
    pub replies: Vec<Reply>,
    /// What is decided each time it has stopped; to try again when there is no more.
    pub decisions: Vec<Decision>,
    /// Times that it cannot be taken back.
    pub sticks: u32,
    /// What is decided each time it could not be taken back; to try again when there is no more.
    pub stuck: Vec<Decision>,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    Undone,
    Aborted,
    Failed,
}

/// What a run comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub ending: Ending,
    pub stands: BTreeMap<String, Stand>,
    /// Steps whose effect stands at the end.
    pub standing: BTreeSet<String>,
}

/// How one step ended.
enum Ended {
    As(Stand),
    /// The whole run is taken back: by the plan, or by a person.
    TakesBack {
        by_person: bool,
    },
}

struct Run<'a> {
    sheet: &'a Runsheet,
    scripts: &'a BTreeMap<String, Script>,
    stands: BTreeMap<String, Stand>,
    by_person: BTreeSet<String>,
    standing: BTreeSet<String>,
    begun: Vec<&'a Node>,
    no_return: bool,
}

/// What it means to carry out this sheet, with these steps and these people.
pub fn meaning(sheet: &Runsheet, scripts: &BTreeMap<String, Script>) -> Meaning {
    let stands = sheet.nodes.iter().map(|node| (node.id.to_string(), Stand::Waiting)).collect();
    let (by_person, standing, begun) = Default::default();
    let mut run = Run { sheet, scripts, stands, by_person, standing, begun, no_return: false };
    for node in &sheet.nodes {
        match run.step(node) {
            Ended::As(stand) => drop(run.stands.insert(node.id.to_string(), stand)),
            Ended::TakesBack { by_person } => return run.take_back(by_person),
        }
    }
    Meaning { ending: Ending::Done, stands: run.stands, standing: run.standing }
}

impl<'a> Run<'a> {
    fn script(&self, node: &Node) -> Script {
        self.scripts.get(node.id.as_str()).cloned().unwrap_or_default()
    }

    /// A step runs only if all that it needs succeeded, or a person said to go on without, or it was a note.
    fn blocked(&self, node: &Node) -> bool {
        let needed = self.sheet.edges.iter().filter(|edge| edge.to == node.id && edge.kind == EdgeKind::Needs);
        needed.into_iter().any(|edge| {
            let before = self.sheet.nodes.iter().find(|node| node.id == edge.from);
            match self.stands[edge.from.as_str()] {
                Stand::Succeeded => false,
                Stand::Skipped => !self.by_person.contains(edge.from.as_str()),
                Stand::Degraded => before.is_none_or(|node| node.kind != NodeKind::Note),
                _ => true,
            }
        })
    }

    fn step(&mut self, node: &'a Node) -> Ended {
        if self.blocked(node) {
            return Ended::As(Stand::Skipped);
        }
        if matches!(node.action, Action::NoReturn) {
            self.no_return = true;
        }
        if node.kind == NodeKind::Barrier || node.kind == NodeKind::Timer {
            return Ended::As(Stand::Succeeded);
        }
        let asks = matches!(node.action, Action::Approve { .. } | Action::Manual { .. });
        if !asks {
            self.begun.push(node);
        }
        let script = self.script(node);
        let mut broken = script.broken.map_or(0, |(_, times)| times);
        let (mut asked, mut stopped) = (0, 0);
        loop {
            let failed = if asks {
                asked += 1;
                match script.replies.get(asked - 1).unwrap_or(&Reply::Yes) {
                    Reply::Yes => None,
                    Reply::No => Some(FailureClass::Refused),
                    Reply::Nothing => Some(FailureClass::Timeout),
                }
            } else {
                script.broken.map(|(class, _)| class).filter(|_| broken > 0)
            };
            let Some(class) = failed else {
                if matches!(node.kind, NodeKind::Act | NodeKind::Hook) {
                    self.standing.insert(node.id.to_string());
                }
                return Ended::As(Stand::Succeeded);
            };
            if let Some(ended) = self.by_plan(node, class) {
                return ended;
            }
            stopped += 1;
            if let Some(ended) = self.by_people(node, script.decisions.get(stopped - 1)) {
                return ended;
            }
            broken = broken.saturating_sub(1);
        }
    }

    /// What the plan says about a failure; `None`: it waits for a person.
    fn by_plan(&self, node: &Node, class: FailureClass) -> Option<Ended> {
        let undo_is_open = !self.no_return && !node.after_no_return;
        match node.otherwise {
            _ if class == FailureClass::Diverged => None,
            Otherwise::Continue => Some(Ended::As(Stand::Degraded)),
            Otherwise::Undo if undo_is_open => Some(Ended::TakesBack { by_person: false }),
            Otherwise::Pause if node.kind == NodeKind::Note => Some(Ended::As(Stand::Degraded)),
            Otherwise::Pause | Otherwise::Undo => None,
        }
    }

    /// What a person says about it; `None`: it is tried again. Who says what is not possible says to try again then.
    fn by_people(&mut self, node: &Node, decision: Option<&Decision>) -> Option<Ended> {
        match decision {
            Some(Decision::Skip) if !matches!(node.action, Action::Fence { .. }) => {
                self.by_person.insert(node.id.to_string());
                Some(Ended::As(Stand::Skipped))
            }
            Some(Decision::DoneByHand) => Some(Ended::As(Stand::Succeeded)),
            Some(Decision::Abort) if !self.no_return => Some(Ended::TakesBack { by_person: true }),
            _ => None,
        }
    }

    /// In the reverse of the order in which they were begun; what changes nothing is not taken back.
    fn take_back(mut self, by_person: bool) -> Meaning {
        let mut left = false;
        let stopped = self.sheet.nodes.iter().find(|node| self.stands[node.id.as_str()] == Stand::Waiting);
        for node in self.begun.iter().rev() {
            if matches!(node.kind, NodeKind::Check | NodeKind::Note) {
                continue;
            }
            let script = self.script(node);
            let mut stand = Stand::Undone;
            for time in 0..script.sticks {
                match script.stuck.get(time as usize) {
                    Some(Decision::Skip) => stand = Stand::Left,
                    Some(Decision::DoneByHand) => {}
                    _ => continue,
                }
                break;
            }
            left |= stand == Stand::Left;
            let by_hand = (0..script.sticks)
                .find_map(|time| match script.stuck.get(time as usize) {
                    Some(Decision::Skip) => Some(false),
                    Some(Decision::DoneByHand) => Some(true),
                    _ => None,
                })
                .is_some();
            // Whoever says that it was taken back by hand is believed; the world is not asked.
            if !by_hand {
                self.standing.remove(node.id.as_str());
            }
            self.stands.insert(node.id.to_string(), stand);
        }
        if let Some(node) = stopped.filter(|node| self.stands[node.id.as_str()] == Stand::Waiting) {
            // It failed, and there is nothing of it to take back.
            let stand = if by_person { Stand::Paused } else { Stand::Failed };
            self.stands.insert(node.id.to_string(), stand);
        }
        let ending = match (left, by_person) {
            (true, _) => Ending::Failed,
            (false, true) => Ending::Aborted,
            (false, false) => Ending::Undone,
        };
        Meaning { ending, stands: self.stands, standing: self.standing }
    }
}
