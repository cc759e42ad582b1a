//! The typed view of a file: what the words are, not what they mean.
//!
//! Names are not resolved, units not checked, calls not typed: that is the compiler's work. Whatever could not be read
//! is missing here and reported beside it, so that later phases run on what survived.

use muster_diagnostics::Span;

#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    pub text: String,
    pub span: Span,
}

/// `a`, `a.b`, `a.b[0]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ref {
    pub head: Name,
    pub path: Vec<Access>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Access {
    Field(Name),
    Index(u64, Span),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// Contents with escapes undone and, for `"""`, common indent stripped. `{a.b}` parts are kept as written;
    /// [`crate::ast`] users find them with `interpolations`.
    Text(TextValue),
    Int(u64),
    /// `1h30m` is two parts; `400Mbit/s` one. Units are any word here.
    Quantity(Vec<QuantityPart>),
    /// As written: `10.0.0.5`, `2001:db8::1`.
    Ip(String),
    /// As written: `10.0.0.0/24`.
    Cidr(String),
    Mac(String),
    Ref(Ref),
    Call(Call),
    List(Vec<Expr>),
    Binary {
        left: Box<Expr>,
        operator: ArithmeticOperator,
        operator_span: Span,
        right: Box<Expr>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct TextValue {
    pub text: String,
    /// A `"""` block: its body starts at this span, for mapping inner errors (hook bodies) back into the file.
    pub block: bool,
    /// The part of the source between the quotes.
    pub inner: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct QuantityPart {
    /// As written: `1`, `2.5`.
    pub number: String,
    pub number_span: Span,
    /// As written: `h`, `Mbit/s`, `%`.
    pub unit: Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArithmeticOperator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub callee: Ref,
    pub arguments: Vec<Argument>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    pub name: Option<Name>,
    pub value: Expr,
}

/// `when test, back`.
#[derive(Clone, Debug, PartialEq)]
pub struct When {
    pub names: Vec<Name>,
    pub span: Span,
}

/// `name = value [when ...]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    pub name: Name,
    pub value: FactValue,
    pub when: Option<When>,
    pub span: Span,
    /// Text of `##` lines above it.
    pub doc: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FactValue {
    Expr(Expr),
    /// `every 1h app-consistent`, `every 1h for 7d`.
    Every {
        interval: Expr,
        kind: Option<Name>,
        lasting: Option<Expr>,
        span: Span,
    },
    /// `24h, every 1h for 7d`: two values or more.
    Several {
        values: Vec<FactValue>,
        span: Span,
    },
    /// `hq -> dr back hq2`, only in `move`.
    Move {
        from: Name,
        to: Name,
        back: Option<Name>,
        span: Span,
    },
}

impl FactValue {
    /// All of it, its further values too.
    pub fn span(&self) -> Span {
        match self {
            Self::Expr(expr) => expr.span,
            Self::Every { span, .. } | Self::Several { span, .. } | Self::Move { span, .. } => *span,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    pub edition: Option<Edition>,
    pub items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Edition {
    pub year: u32,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Use(Use),
    Let(Let),
    Secret(Secret),
    Site(Site),
    Route(Route),
    Place(Place),
    Machine(Machine),
    Window(Window),
    /// `team`, `policy` and `group` are a name with facts.
    Team(Block),
    Policy(Block),
    Group(Block),
    Hook(Hook),
    Template(Template),
    Plan(Plan),
    Test(Test),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    /// As written: `./sites`, `std/mssql`.
    pub path: Name,
    pub names: UseNames,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum UseNames {
    /// `use ./sites { hq, dr }`
    Some(Vec<Name>),
    /// `use ./sites as s`
    As(Name),
    /// `use ./sites`
    Bare,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Let {
    pub name: Name,
    pub value: Expr,
    pub span: Span,
    pub doc: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Secret {
    pub name: Name,
    /// `keyring("dr/vcenter-hq")`
    pub source: Call,
    pub span: Span,
    pub doc: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    pub name: Name,
    pub facts: Vec<Fact>,
    pub networks: Vec<Network>,
    pub span: Span,
    pub doc: Option<String>,
}

/// `network data = 10.10.20.0/24 as "PG-DATA-20"`; the `as` part may be left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    pub name: Name,
    pub cidr: Expr,
    pub label: Option<Expr>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    pub left: Name,
    pub right: Name,
    pub facts: Vec<Fact>,
    pub pairs: Vec<Pair>,
    pub span: Span,
    pub doc: Option<String>,
}

/// `data <-> data test isolated`, `10.10.40.10 <-> 10.60.40.200`, `resolver a <-> b`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    pub resolver: bool,
    pub left: End,
    pub right: End,
    pub test: Option<PairTest>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Network(Name),
    Ip(String, Span),
}

#[derive(Clone, Debug, PartialEq)]
pub enum PairTest {
    Isolated(Span),
    Network(Name),
}

/// `place sql-01 at dr { ... }`, `place * at dr { ... }`.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// `None` is `*`.
    pub machine: Option<Name>,
    pub site: Name,
    pub facts: Vec<Fact>,
    pub span: Span,
}

/// `machine app-01 at hq { ... }`.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    pub name: Name,
    pub site: Name,
    pub facts: Vec<Fact>,
    pub span: Span,
    pub doc: Option<String>,
}

/// `window office = mon-fri 08:00-18:00 Europe/Amsterdam`.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub name: Name,
    /// As written: `mon-fri`, `sat,sun`.
    pub days: Name,
    /// As written: `08:00-18:00`.
    pub hours: Name,
    /// As written: `Europe/Amsterdam`.
    pub zone: Name,
    pub span: Span,
    pub doc: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub name: Name,
    pub like: Option<Name>,
    pub facts: Vec<Fact>,
    pub span: Span,
    pub doc: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Hook {
    /// `probe` instead of `hook`: may only read.
    pub probe: bool,
    pub name: Name,
    pub parameters: Vec<Parameter>,
    pub facts: Vec<Fact>,
    pub span: Span,
    pub doc: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    pub name: Name,
    pub kind: Type,
    pub default: Option<Expr>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Name(Name),
    List(Box<Type>, Span),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    pub name: Name,
    pub parameters: Vec<Parameter>,
    pub body: Body,
    pub span: Span,
    pub doc: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub name: Name,
    pub facts: Vec<Fact>,
    pub stages: Vec<Stage>,
    pub span: Span,
    pub doc: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    pub name: Name,
    pub after: Vec<Name>,
    pub body: Body,
    pub span: Span,
    pub doc: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    pub lines: Vec<Line>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
// Nearly every line is a step; a box around each would cost more than the few blocks waste.
#[allow(clippy::large_enum_variant)]
pub enum Line {
    Step(Step),
    When { when: When, body: Body },
    Down { span: Span, body: Body },
    Parallel { span: Span, body: Body },
    Require { condition: Comparison, text: Expr, span: Span },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub verb: Verb,
    pub verb_span: Span,
    pub clauses: Clauses,
    pub span: Span,
    pub doc: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    Start { machines: Vec<Ref>, in_turn: bool },
    Stop { machines: Vec<Ref>, in_turn: bool },
    Create { machines: Vec<Ref>, from: Expr },
    Check { machines: Vec<Ref>, probe: Call },
    Run { hook: Call },
    Apply { template: Call },
    Approve { text: Expr, by: Ref },
    Manual { text: Expr, by: Ref },
    Wait { duration: Expr },
    Notify { to: Ref, text: Expr },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Clauses {
    pub label: Option<Name>,
    pub within: Option<Expr>,
    pub usually: Option<Expr>,
    pub retry: Option<Retry>,
    pub when: Option<When>,
    pub otherwise: Option<Otherwise>,
}

/// `retry 3 every 20s`, `retry 3 every 20s each 2m`.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    pub count: u64,
    pub every: Expr,
    /// The limit of each attempt, the first one included.
    pub each: Option<Expr>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Otherwise {
    pub kind: OtherwiseKind,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherwiseKind {
    Pause,
    Continue,
    Undo,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pub left: Expr,
    pub rest: Option<(ComparisonOperator, Expr)>,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComparisonOperator {
    Equal,
    NotEqual,
    LessOrEqual,
    GreaterOrEqual,
    Less,
    Greater,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    pub title: Expr,
    pub lines: Vec<TestLine>,
    pub span: Span,
    /// A line of it could not be read, which was reported: that one is missing proves nothing.
    pub whole: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum TestLine {
    Subject(Subject),
    Given(Given),
    Expect(Expectation),
}

/// `compile shop any`, `simulate shop unplanned seed 7`, `compile "fixtures/lossy.plan" failback`.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// `simulate` in place of `compile`.
    pub simulate: bool,
    pub of: SubjectOf,
    pub operation: Name,
    pub seed: Option<u64>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SubjectOf {
    Plan(Ref),
    /// A file of its own, relative to the test's.
    File(TextValue, Span),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    pub kind: GivenKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum GivenKind {
    /// `engine crashes at every step`
    Crashes,
    /// `hq unreachable`
    Unreachable(Ref),
    /// `db.start fails 2 times`
    Fails { step: Ref, times: u64 },
    /// `doors.approve answered yes after 4m`
    Answered { step: Ref, yes: bool, after: Option<Expr> },
    /// `link hq <-> dr slowed to 20Mbit/s`
    Slowed { left: Name, right: Name, rate: Expr },
    /// `boots at dr limited to 2`
    Boots { site: Name, at_once: u64 },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    pub kind: ExpectationKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExpectationKind {
    /// `never dns-swing`
    Never(Ref),
    /// `error E0504`
    Error(Name),
    /// `db before app`, `app after db`
    Order { left: Ref, before: bool, right: Ref },
    /// `elapsed <= 45m`
    Holds(Comparison),
}
