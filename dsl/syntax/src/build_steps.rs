//! Stage bodies, steps and their clauses.

use crate::ast::{
    Body, Clauses, Comparison, ComparisonOperator, Line, Name, Otherwise, OtherwiseKind, Ref, Retry, Step, Verb, When,
};
use crate::build::{Builder, child, children};
use crate::explain::Place as Where;
use crate::grammar::{Pair, Rule};
use muster_diagnostics::{Applicability, Diagnostic, Span};

impl Builder<'_> {
    pub(crate) fn child_body(&mut self, pair: &Pair<'_>) -> Option<Body> {
        let body = child(pair, Rule::body)?;
        let mut lines = Vec::new();
        for line in body.clone().into_inner() {
            if line.as_rule() == Rule::junk {
                self.junk(&line, Where::Body);
            } else {
                lines.extend(self.line(&line));
            }
        }
        Some(Body { lines, span: self.span(&body) })
    }

    fn line(&mut self, pair: &Pair<'_>) -> Option<Line> {
        let span = self.span(pair);
        Some(match pair.as_rule() {
            Rule::when_block => Line::When { when: self.child_when(pair)?, body: self.child_body(pair)? },
            Rule::down => Line::Down { span, body: self.child_body(pair)? },
            Rule::parallel => Line::Parallel { span, body: self.child_body(pair)? },
            Rule::require => {
                let text = child(pair, Rule::require_text)?.into_inner().next()?;
                Line::Require { condition: self.comparison(&child(pair, Rule::cmp)?)?, text: self.atom(&text)?, span }
            }
            Rule::step => Line::Step(self.step(pair)?),
            _ => return None,
        })
    }

    pub(crate) fn comparison(&mut self, pair: &Pair<'_>) -> Option<Comparison> {
        let mut sides = children(pair, Rule::expr);
        let left = self.expr(&sides.next()?)?;
        let operator = child(pair, Rule::cmp_op).and_then(|operator| match operator.as_str() {
            "==" => Some(ComparisonOperator::Equal),
            "!=" => Some(ComparisonOperator::NotEqual),
            "<=" => Some(ComparisonOperator::LessOrEqual),
            ">=" => Some(ComparisonOperator::GreaterOrEqual),
            "<" => Some(ComparisonOperator::Less),
            ">" => Some(ComparisonOperator::Greater),
            _ => None,
        });
        let rest = match (operator, sides.next()) {
            (Some(operator), Some(right)) => Some((operator, self.expr(&right)?)),
            _ => None,
        };
        Some(Comparison { left, rest, span: self.span(pair) })
    }

    fn step(&mut self, pair: &Pair<'_>) -> Option<Step> {
        let span = self.span(pair);
        let mut parts = pair.clone().into_inner();
        let verb_pair = parts.next()?;
        let verb_span = self.span(&verb_pair.clone().into_inner().next()?);
        let verb = self.verb(&verb_pair)?;
        let mut clauses = Clauses::default();
        for clause in parts {
            self.clause(&clause, &mut clauses)?;
        }
        Some(Step { verb, verb_span, clauses, span, doc: self.doc(span) })
    }

    fn verb(&mut self, pair: &Pair<'_>) -> Option<Verb> {
        let in_turn = child(pair, Rule::turn).is_some();
        Some(match pair.as_rule() {
            Rule::start => Verb::Start { machines: self.references(pair), in_turn },
            Rule::stop => Verb::Stop { machines: self.references(pair), in_turn },
            Rule::create => Verb::Create { machines: self.references(pair), from: self.child_expr(pair)? },
            Rule::check => Verb::Check { machines: self.references(pair), probe: self.child_call(pair)? },
            Rule::run => Verb::Run { hook: self.child_call(pair)? },
            Rule::apply => Verb::Apply { template: self.child_call(pair)? },
            Rule::approve => Verb::Approve { text: self.child_expr(pair)?, by: self.child_reference(pair)? },
            Rule::manual => Verb::Manual { text: self.child_expr(pair)?, by: self.child_reference(pair)? },
            Rule::wait => Verb::Wait { duration: self.child_expr(pair)? },
            Rule::notify => Verb::Notify { to: self.child_reference(pair)?, text: self.child_expr(pair)? },
            _ => return None,
        })
    }

    fn references(&mut self, pair: &Pair<'_>) -> Vec<Ref> {
        let Some(refs) = child(pair, Rule::refs) else { return Vec::new() };
        children(&refs, Rule::ref_).filter_map(|reference| self.reference(&reference)).collect()
    }

    fn child_reference(&mut self, pair: &Pair<'_>) -> Option<Ref> {
        child(pair, Rule::ref_).and_then(|reference| self.reference(&reference))
    }

    /// `None` when what stands in the clause could not be read: the step is then left out, as it would do less than was written.
    fn clause(&mut self, pair: &Pair<'_>, clauses: &mut Clauses) -> Option<()> {
        let span = self.span(pair);
        match pair.as_rule() {
            Rule::label => {
                let label: Option<Name> = self.nth_name(pair, 0);
                self.once(span, "as", clauses.label.as_ref().map(|label| label.span));
                clauses.label = clauses.label.take().or(label);
            }
            Rule::within => {
                let value = self.child_expr(pair)?;
                self.once(span, "within", clauses.within.as_ref().map(|within| within.span));
                clauses.within.get_or_insert(value);
            }
            Rule::usually => {
                let value = self.child_expr(pair)?;
                self.once(span, "usually", clauses.usually.as_ref().map(|usually| usually.span));
                clauses.usually.get_or_insert(value);
            }
            Rule::retry => {
                let retry = self.retry(pair)?;
                self.once(span, "retry", clauses.retry.as_ref().map(|retry| retry.span));
                clauses.retry.get_or_insert(retry);
            }
            Rule::when => {
                let when = self.when(pair);
                self.once(span, "when", clauses.when.as_ref().map(|when| when.span));
                clauses.when.get_or_insert(when);
            }
            Rule::else_ => {
                let kind = match pair.clone().into_inner().last()?.as_rule() {
                    Rule::kw_continue => OtherwiseKind::Continue,
                    Rule::kw_undo => OtherwiseKind::Undo,
                    _ => OtherwiseKind::Pause,
                };
                self.once(span, "else", clauses.otherwise.as_ref().map(|otherwise| otherwise.span));
                clauses.otherwise.get_or_insert(Otherwise { kind, span });
            }
            _ => {}
        }
        Some(())
    }

    fn retry(&mut self, pair: &Pair<'_>) -> Option<Retry> {
        let count = self.whole_number(&child(pair, Rule::int)?)?;
        let mut limits = children(pair, Rule::expr);
        let every = self.expr(&limits.next()?)?;
        let each = match limits.next() {
            Some(each) => Some(self.expr(&each)?),
            None => None,
        };
        Some(Retry { count, every, each, span: self.span(pair) })
    }

    fn once(&mut self, span: Span, word: &str, earlier: Option<Span>) {
        let Some(earlier) = earlier else { return };
        self.diagnostics.push(
            Diagnostic::error(104, format!("`{word}` is written twice on one step"), span, "the second one")
                .related(earlier, "the first one")
                .help("keep one of them")
                .fix(span, "", Applicability::Maybe),
        );
    }

    pub(crate) fn child_when(&self, pair: &Pair<'_>) -> Option<When> {
        child(pair, Rule::when).map(|when| self.when(&when))
    }

    fn when(&self, pair: &Pair<'_>) -> When {
        When { names: children(pair, Rule::scoped).map(|name| self.name(&name)).collect(), span: self.span(pair) }
    }
}
