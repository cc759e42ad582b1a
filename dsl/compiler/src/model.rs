//! A plan with every word resolved: what the lowering works on, for any operation.

use crate::value::Value;
use muster_diagnostics::Span;
use muster_runsheet::{Direction, Duration, Kind, Operation, Otherwise, PointChoice, RetrySheet};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlanModel {
    pub name: String,
    pub span: Span,
    pub from: String,
    pub to: String,
    /// Where the way home ends, when not where it began.
    pub back: Option<String>,
    pub rto: Option<(Duration, Span)>,
    pub rpo: Option<(Duration, Span)>,
    pub owner: Option<String>,
    pub keep: Vec<(Condition, Duration)>,
    pub points: Vec<(Condition, PointChoice, Span)>,
    /// In an order in which `after` holds; in the order of the text among equals.
    pub stages: Vec<StageModel>,
    /// Machines the plan starts or creates, and where it first says so.
    pub machines: BTreeMap<String, Span>,
    /// Those of them that are rebuilt, not recovered.
    pub created: Vec<String>,
    /// Replicated groups of its machines.
    pub groups: Vec<String>,
    /// Index of the route between `from` and `to`, and of the one that leads to `back`.
    pub route: usize,
    pub back_route: usize,
}

impl PlanModel {
    /// Where production is before a move in this direction, and after it.
    pub(crate) fn ends(&self, direction: Direction) -> (&str, &str) {
        let home = self.back.as_deref().unwrap_or(&self.from);
        match direction {
            Direction::Out => (&self.from, &self.to),
            Direction::Back => (&self.to, home),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StageModel {
    pub name: String,
    pub after: Vec<String>,
    /// Where each of `after` is written, in the same order.
    pub after_spans: Vec<Span>,
    pub lines: Vec<LineModel>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LineModel {
    Step(Box<StepModel>),
    When(Condition, Vec<LineModel>),
    Parallel(Vec<LineModel>),
    Down(Vec<LineModel>),
    /// An expanded template: its lines, one behind the other.
    Sequence(Vec<LineModel>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StepModel {
    pub verb: VerbModel,
    /// Templates around it: `cluster`.
    pub prefix: Vec<String>,
    pub label: Option<String>,
    pub within: Option<Duration>,
    pub usually: Option<Duration>,
    pub retry: Option<RetrySheet>,
    pub when: Condition,
    pub otherwise: Otherwise,
    /// Of the `else`, for E0606 and E0607.
    pub otherwise_span: Option<Span>,
    pub span: Span,
    /// `shop.plan:24`.
    pub made_by: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum VerbModel {
    Start { machines: Vec<(String, Span)>, in_turn: bool },
    Stop { machines: Vec<(String, Span)>, in_turn: bool },
    Create { machines: Vec<(String, Span)>, from: String },
    Check { machines: Vec<(String, Span)>, probe: String, arguments: BTreeMap<String, Value> },
    Run { hook: String, arguments: BTreeMap<String, Value> },
    Approve { text: String, by: String },
    Manual { text: String, by: String },
    Wait { duration: Duration },
    Notify { to: String, text: String },
}

/// `when test, back`: holds when any of its words does. No words: always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition(pub Vec<When>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Test,
    Live,
    Planned,
    Unplanned,
    Failback,
    Out,
    Back,
    Any,
}

impl When {
    pub(crate) const WORDS: [(&'static str, Self); 8] = [
        ("test", Self::Test),
        ("live", Self::Live),
        ("planned", Self::Planned),
        ("unplanned", Self::Unplanned),
        ("failback", Self::Failback),
        ("out", Self::Out),
        ("back", Self::Back),
        ("any", Self::Any),
    ];
    fn holds(self, operation: Operation) -> bool {
        let Operation { kind, direction } = operation;
        match self {
            Self::Test => kind == Kind::Test,
            Self::Live => kind.is_live(),
            Self::Planned => kind == Kind::Planned,
            Self::Unplanned => kind == Kind::Unplanned,
            Self::Failback => kind.is_live() && direction == Direction::Back,
            Self::Out => direction == Direction::Out,
            Self::Back => direction == Direction::Back,
            Self::Any => true,
        }
    }
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, when)| *when == self).map_or("any", |(word, _)| word)
    }
}

impl Condition {
    pub(crate) fn holds(&self, operation: Operation) -> bool {
        self.0.is_empty() || self.0.iter().any(|when| when.holds(operation))
    }
    /// `when test, back`.
    pub(crate) fn words(&self) -> String {
        let words: Vec<&str> = self.0.iter().map(|when| when.word()).collect();
        format!("when {}", words.join(", "))
    }
}

/// The operations in which a plan rises.
pub(crate) const RISING: [Operation; 6] = [
    Operation { kind: Kind::Test, direction: Direction::Out },
    Operation { kind: Kind::Planned, direction: Direction::Out },
    Operation { kind: Kind::Unplanned, direction: Direction::Out },
    Operation { kind: Kind::Test, direction: Direction::Back },
    Operation { kind: Kind::Planned, direction: Direction::Back },
    Operation { kind: Kind::Unplanned, direction: Direction::Back },
];
