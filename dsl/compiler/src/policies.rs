//! Policies: how often data leaves, what is kept of it and for how long, through how much bandwidth.

use crate::context::Context;
use crate::facts::{Facts, Shape, plain, word};
use crate::groups::base_of;
use crate::names::Kind;
use crate::secrets::key_of;
use crate::suggest::nearest;
use crate::value::{Env, Type, Value};
use crate::windows::Windows;
use muster_diagnostics::{Applicability, Diagnostic, Span};
use muster_runsheet::{Duration, InitialCopy, PolicySheet, Rate, RetentionTier, SecretRef, Size, WindowSheet};
use muster_syntax::ast::{self, ExprKind, Fact, FactValue, Item};
use std::collections::BTreeMap;

const POLICY: Shape = Shape {
    what: "a policy",
    known: &[
        "rpo",
        "replicate",
        "snapshot",
        "retain",
        "bandwidth",
        "change-log",
        "compression",
        "encryption",
        "resync",
        "initial-copy",
    ],
    required: &["rpo", "replicate", "retain"],
    conditional: &["bandwidth"],
};

/// zstd levels: beyond these a level costs more than a network gives back.
const COMPRESSION: std::ops::RangeInclusive<u64> = 1..=19;
const COMPRESSION_DEFAULT: i32 = 3;
/// In a sheet: lower while the link is faster than the processors, higher while it is slower.
const COMPRESSION_AUTO: i32 = 0;
/// A cycle shorter than this never ends before the next begins.
const CYCLE_MIN: Duration = Duration::from_secs(1);
/// How often a point is made of what a continuous replication has brought.
const CONTINUOUS_POINTS: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PolicyModel {
    pub sheet: PolicySheet,
    pub rpo: Span,
    pub cycle: Span,
    pub app: Option<Span>,
    pub crash: Option<Span>,
    pub change_log: Option<Span>,
    pub rates: Vec<RateFact>,
}

/// One `bandwidth`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RateFact {
    /// Zero where nothing leaves.
    pub rate: Rate,
    pub span: Span,
    /// With the place of its name behind `when`.
    pub window: Option<(WindowSheet, Span)>,
}

pub(crate) fn resolve_policies(cx: &Context<'_>, windows: &Windows) -> BTreeMap<String, Option<PolicyModel>> {
    let mut policies = BTreeMap::new();
    let mut copies = Vec::new();
    for (module, file) in cx.modules.iter().enumerate() {
        for item in &file.ast.items {
            let Item::Policy(block) = item else { continue };
            let model = resolve_policy(cx, module, block, windows);
            policies.entry(block.name.text.clone()).or_insert(model);
            if let Some(like) = &block.like {
                copies
                    .push((&block.name.text, like.text.rsplit_once('.').map_or(like.text.as_str(), |(_, name)| name)));
            }
        }
    }
    // What the original could not say is not known of its copies either.
    for (copy, original) in copies {
        if matches!(policies.get(original), Some(None)) {
            policies.insert(copy.clone(), None);
        }
    }
    policies
}

fn resolve_policy(cx: &Context<'_>, module: usize, block: &ast::Block, windows: &Windows) -> Option<PolicyModel> {
    let before = cx.errors();
    let base = base_of(cx, module, block, Kind::Policy);
    let shape = if block.like.is_some() { &Shape { required: &[], ..POLICY } } else { &POLICY };
    let facts = Facts::read(cx, shape, block.name.span, block.span, &block.facts);
    let reader = Reader { cx, module, facts, base, windows };
    let rpo = reader.duration("rpo");
    let cycle = reader.replicate();
    let snapshots = reader.snapshots();
    let retention = reader.retention();
    let rates = reader.bandwidth();
    let change_log = reader.size("change-log");
    let compression = reader.compression();
    let encryption = reader.encryption();
    let resync_window = reader.resync();
    let initial_copy = reader.initial_copy();
    if cx.errors() > before || cx.is_unread(block.span) {
        return None;
    }
    let ((rpo, rpo_span), (cycle, cycle_span, continuous)) = (rpo?, cycle?);
    let (retain, retain_all, tiers) = retention?;
    let windowed = rates.iter().filter_map(|fact| Some((fact.window.as_ref()?.0.clone(), fact.rate)));
    let sheet = PolicySheet {
        name: block.name.text.as_str().into(),
        rpo,
        cycle,
        app_every: snapshots.app.map(|(every, _)| every),
        retain,
        bandwidth: rates.iter().find(|fact| fact.window.is_none()).map(|fact| fact.rate),
        bandwidth_windows: windowed.collect(),
        change_log: change_log.map(|(size, _)| size),
        compression: compression.unwrap_or(COMPRESSION_DEFAULT),
        continuous,
        crash_every: snapshots.crash.map(|(every, _)| every),
        tiers,
        retain_all,
        encryption,
        resync_window,
        initial_copy: initial_copy.unwrap_or_default(),
    };
    Some(PolicyModel {
        sheet,
        rpo: rpo_span,
        cycle: cycle_span,
        app: snapshots.app.map(|(_, span)| span),
        crash: snapshots.crash.map(|(_, span)| span),
        change_log: change_log.map(|(_, span)| span),
        rates,
    })
}

#[derive(Clone, Copy, Debug, Default)]
struct Snapshots {
    app: Option<(Duration, Span)>,
    crash: Option<(Duration, Span)>,
}

/// Every point so long, then thinner.
type Retention = (Duration, Option<Duration>, Vec<RetentionTier>);

/// Facts of a policy, with those of the one it is like behind them.
struct Reader<'a, 'w> {
    cx: &'a Context<'w>,
    module: usize,
    facts: Facts<'a>,
    base: Option<(usize, &'a [Fact])>,
    windows: &'a Windows,
}

impl<'a> Reader<'a, '_> {
    fn all(&self, word: &str) -> Vec<(usize, &'a Fact)> {
        let own: Vec<_> = self.facts.all(word).map(|fact| (self.module, fact)).collect();
        match self.base {
            Some((module, base)) if own.is_empty() => {
                base.iter().filter(|fact| fact.name.text == word).map(|fact| (module, fact)).collect()
            }
            _ => own,
        }
    }
    fn one(&self, word: &str) -> Option<(usize, &'a Fact)> {
        self.all(word).into_iter().next()
    }
    fn expr(&self, word: &str) -> Option<(usize, &'a ast::Expr)> {
        let (module, fact) = self.one(word)?;
        Some((module, plain(self.cx, fact)?))
    }
    fn duration(&self, word: &str) -> Option<(Duration, Span)> {
        let (module, expr) = self.expr(word)?;
        Some((self.cx.duration(module, &Env::new(), expr)?, expr.span))
    }
    fn size(&self, word: &str) -> Option<(Size, Span)> {
        let (module, expr) = self.expr(word)?;
        match self.cx.expect(module, &Env::new(), expr, &Type::Size)? {
            Value::Size(size) => Some((size, expr.span)),
            _ => None,
        }
    }

    /// `every 30s`, or `continuous`; with whether it is.
    fn replicate(&self) -> Option<(Duration, Span, bool)> {
        let (module, fact) = self.one("replicate")?;
        match &fact.value {
            FactValue::Expr(expr) if word(expr) == Some("continuous") => Some((CONTINUOUS_POINTS, expr.span, true)),
            FactValue::Every { kind: Some(kind), .. } => self.unknown_kind(kind, "nothing stands here"),
            value => self.every(module, &fact.name.text, value).map(|(every, span)| (every, span, false)),
        }
    }

    /// `every 1h app-consistent, every 15m crash-consistent`, or `none`.
    fn snapshots(&self) -> Snapshots {
        let mut snapshots = Snapshots::default();
        let Some((module, fact)) = self.one("snapshot") else { return snapshots };
        if matches!(&fact.value, FactValue::Expr(expr) if word(expr) == Some("none")) {
            return snapshots;
        }
        for value in several(&fact.value) {
            let crash = match value {
                FactValue::Every { kind: Some(kind), .. } => match kind.text.as_str() {
                    "app-consistent" => false,
                    "crash-consistent" => true,
                    _ => {
                        self.unknown_kind::<()>(kind, "`app-consistent` or `crash-consistent` stands here");
                        continue;
                    }
                },
                _ => false,
            };
            let Some((every, span)) = self.every(module, "snapshot", value) else { continue };
            let slot = if crash { &mut snapshots.crash } else { &mut snapshots.app };
            if let Some((_, first)) = slot {
                self.cx.push(
                    Diagnostic::error(104, "one kind of snapshot is given twice", span, "again here")
                        .related(*first, "first here"),
                );
            } else {
                *slot = Some((every, span));
            }
        }
        snapshots
    }

    fn unknown_kind<T>(&self, kind: &ast::Name, known: &str) -> Option<T> {
        let diagnostic = Diagnostic::error(211, format!("`{}` is not known", kind.text), kind.span, known);
        self.cx.report(match nearest(&kind.text, ["app-consistent", "crash-consistent"]) {
            Some(near) if !known.starts_with("nothing") => {
                diagnostic.help(format!("did you mean `{near}`?")).fix(kind.span, near, Applicability::Maybe)
            }
            _ => diagnostic,
        })
    }

    /// The interval of one schedule, without an end.
    fn every(&self, module: usize, name: &str, value: &FactValue) -> Option<(Duration, Span)> {
        let FactValue::Every { interval, lasting, .. } = value else {
            let span = value.span();
            let diagnostic = Diagnostic::error(211, format!("`{name}` is a schedule"), span, "not a schedule");
            let text = self.cx.sources.get(span.file);
            let text = text.and_then(|file| file.text.get(span.start as usize..span.end as usize));
            let interval = text.filter(|text| text.starts_with(|c: char| c.is_ascii_digit()));
            return self.cx.report(match interval {
                Some(interval) => {
                    let every = format!("every {interval}");
                    diagnostic.help(format!("write `{every}`")).fix(span, every, Applicability::Maybe)
                }
                None => diagnostic.help("write `every 30s`"),
            });
        };
        if let Some(lasting) = lasting {
            return self.cx.report(
                Diagnostic::error(211, format!("`{name}` has no end"), lasting.span, "`for` does not belong here")
                    .help("`for` belongs to `retain`: `retain = 24h, every 1h for 7d`"),
            );
        }
        self.interval(module, interval)
    }

    fn interval(&self, module: usize, interval: &ast::Expr) -> Option<(Duration, Span)> {
        let every = self.cx.duration(module, &Env::new(), interval)?;
        if every < CYCLE_MIN {
            return self.cx.report(
                Diagnostic::error(211, format!("`{every}` is too short"), interval.span, "too often")
                    .help(format!("the shortest is {CYCLE_MIN}")),
            );
        }
        Some((every, interval.span))
    }

    /// `24h`, or `24h, every 1h for 7d, every 1d for 30d`: each tier thinner and longer than the one before.
    fn retention(&self) -> Option<Retention> {
        let (module, fact) = self.one("retain")?;
        let mut all = None;
        let mut tiers: Vec<(RetentionTier, Span)> = Vec::new();
        for (number, value) in several(&fact.value).iter().enumerate() {
            match value {
                FactValue::Expr(expr) if number == 0 => {
                    all = Some(self.cx.duration(module, &Env::new(), expr)?);
                }
                FactValue::Every { interval, lasting: Some(lasting), span, kind: None } if number > 0 => {
                    let every = self.interval(module, interval);
                    let until = self.cx.duration(module, &Env::new(), lasting);
                    let tier = RetentionTier { every: every?.0, until: until? };
                    self.check_tier(tier, *span, all, tiers.last())?;
                    tiers.push((tier, *span));
                }
                other => {
                    let message = if number == 0 { "`retain` begins with a duration" } else { "this is not a tier" };
                    return self.cx.report(Diagnostic::error(211, message, other.span(), "wrong kind").help(
                        "write `24h`, or `24h, every 1h for 7d`: all points for a day, then one an hour for a week",
                    ));
                }
            }
        }
        let all = all?;
        let tiers: Vec<RetentionTier> = tiers.into_iter().map(|(tier, _)| tier).collect();
        let last = tiers.last().map(|tier| tier.until);
        Some((last.unwrap_or(all), last.map(|_| all), tiers))
    }

    fn check_tier(
        &self,
        tier: RetentionTier,
        span: Span,
        all: Option<Duration>,
        before: Option<&(RetentionTier, Span)>,
    ) -> Option<()> {
        let ends = before.map(|(before, _)| before.until).or(all).unwrap_or(Duration::ZERO);
        let wrong = if tier.every > tier.until {
            Some(format!("nothing is left of one point every {} after {}", tier.every, tier.until))
        } else if tier.until <= ends {
            Some(format!("this tier ends before it begins: points are kept closer for {ends}"))
        } else if before.is_some_and(|(before, _)| tier.every <= before.every) {
            Some("this tier keeps more than the one before it".to_owned())
        } else {
            None
        };
        let Some(wrong) = wrong else { return Some(()) };
        let mut diagnostic = Diagnostic::error(406, wrong, span, "keeps nothing of its own");
        if let Some((_, before)) = before {
            diagnostic = diagnostic.related(*before, "the tier before");
        }
        self.cx.report(diagnostic.help("each tier is thinner than the one before it, and ends later"))
    }

    fn compression(&self) -> Option<i32> {
        let (module, expr) = self.expr("compression")?;
        if word(expr) == Some("auto") {
            return Some(COMPRESSION_AUTO);
        }
        match self.cx.expect(module, &Env::new(), expr, &Type::Int)? {
            Value::Int(level) if COMPRESSION.contains(&level) => i32::try_from(level).ok(),
            _ => self.cx.report(Diagnostic::error(211, "`compression` is a level", expr.span, "out of range").help(
                format!(
                    "write a number from {} (fast) to {} (small), or `auto`",
                    COMPRESSION.start(),
                    COMPRESSION.end()
                ),
            )),
        }
    }

    /// `vault`, or the name of a secret that holds a key of its own.
    fn encryption(&self) -> Option<SecretRef> {
        let (module, expr) = self.expr("encryption")?;
        if word(expr) == Some("vault") {
            return None;
        }
        if matches!(word(expr), Some("none" | "off" | "no" | "false")) {
            return self.cx.report(
                Diagnostic::error(211, "what lies in a vault is always encrypted", expr.span, "cannot be turned off")
                    .help("write `encryption = vault`, or name a secret with a key of its own"),
            );
        }
        secret_of(self.cx, module, expr)
    }

    /// `any-time`, or a window.
    fn resync(&self) -> Option<WindowSheet> {
        let (module, expr) = self.expr("resync")?;
        if word(expr) == Some("any-time") {
            return None;
        }
        let ExprKind::Ref(reference) = &expr.kind else {
            return self.cx.report(
                Diagnostic::error(211, "`resync` names a window", expr.span, "not a window")
                    .help("write the name of a `window`, or `any-time`"),
            );
        };
        let text: Vec<&str> = std::iter::once(reference.head.text.as_str())
            .chain(reference.path.iter().filter_map(|access| match access {
                ast::Access::Field(name) => Some(name.text.as_str()),
                ast::Access::Index(..) => None,
            }))
            .collect();
        let name = ast::Name { text: text.join("."), span: expr.span };
        let symbol = self.cx.named(module, &name, Kind::Window)?;
        self.windows.get(&(symbol.module, symbol.index)).cloned()
    }

    fn initial_copy(&self) -> Option<InitialCopy> {
        let (_, expr) = self.expr("initial-copy")?;
        match word(expr) {
            Some("online") => Some(InitialCopy::Online),
            Some("offline") => Some(InitialCopy::Offline),
            _ => self.cx.report(
                Diagnostic::error(211, "this is no way to make a first copy", expr.span, "unknown way")
                    .help("write `online` (over the wire) or `offline` (a seed that travels on a disk)"),
            ),
        }
    }

    fn bandwidth(&self) -> Vec<RateFact> {
        let mut rates = Vec::new();
        for (module, fact) in self.all("bandwidth") {
            let Some(expr) = plain(self.cx, fact) else { continue };
            let closed = word(expr) == Some("none");
            if closed && fact.when.is_none() {
                self.cx.push(
                    Diagnostic::error(402, "nothing would ever leave", expr.span, "at no hour")
                        .help("name the hours: `bandwidth = none when …`; without any `bandwidth` there is no limit"),
                );
                continue;
            }
            let rate = if closed { Some(Rate(0)) } else { self.rate(module, expr) };
            let Some(rate) = rate else { continue };
            let Some(when) = &fact.when else {
                rates.push(RateFact { rate, span: expr.span, window: None });
                continue;
            };
            for name in &when.names {
                let Some(symbol) = self.cx.named(module, name, Kind::Window) else { continue };
                if let Some(window) = self.windows.get(&(symbol.module, symbol.index)) {
                    rates.push(RateFact { rate, span: expr.span, window: Some((window.clone(), name.span)) });
                }
            }
        }
        rates
    }

    fn rate(&self, module: usize, expr: &ast::Expr) -> Option<Rate> {
        let Value::Rate(rate) = self.cx.expect(module, &Env::new(), expr, &Type::Rate)? else { return None };
        if rate.0 == 0 {
            return self.cx.report(
                Diagnostic::error(402, "nothing fits through no bandwidth", expr.span, "zero")
                    .help("for hours in which nothing is to leave, write `bandwidth = none when …`"),
            );
        }
        Some(rate)
    }
}

/// The secret that an expression names, as the engine finds it.
pub(crate) fn secret_of(cx: &Context<'_>, module: usize, expr: &ast::Expr) -> Option<SecretRef> {
    let Value::Named(_, name) = cx.expect(module, &Env::new(), expr, &Type::Named(Kind::Secret))? else { return None };
    let ExprKind::Ref(reference) = &expr.kind else { return None };
    let (symbol, ..) = cx.symbol_of(module, reference)?;
    Some(SecretRef { name, key: key_of(cx, symbol)? })
}

/// The values of a fact that may have many.
fn several(value: &FactValue) -> &[FactValue] {
    match value {
        FactValue::Several { values, .. } => values,
        one => std::slice::from_ref(one),
    }
}
