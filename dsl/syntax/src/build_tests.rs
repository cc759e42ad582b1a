//! Lines of tests.

use crate::ast::{Expectation, ExpectationKind, ExprKind, Given, GivenKind, Subject, SubjectOf, TestLine};
use crate::build::{Builder, child, children};
use crate::explain::Place as Where;
use crate::grammar::{Pair, Rule};

impl Builder<'_> {
    /// The lines that could be read, and whether those are all.
    pub(crate) fn test_lines(&mut self, block: &Pair<'_>) -> (Vec<TestLine>, bool) {
        let (mut lines, mut whole) = (Vec::new(), true);
        for line in block.clone().into_inner() {
            let read = match line.as_rule() {
                Rule::subject => self.subject(&line).map(TestLine::Subject),
                Rule::given => self.given(&line).map(TestLine::Given),
                Rule::expectation => self.expectation(&line).map(TestLine::Expect),
                Rule::junk => {
                    self.junk(&line, Where::Test);
                    None
                }
                _ => continue,
            };
            whole &= read.is_some();
            lines.extend(read);
        }
        (lines, whole)
    }

    fn subject(&mut self, pair: &Pair<'_>) -> Option<Subject> {
        let of = match (child(pair, Rule::text), child(pair, Rule::ref_)) {
            (Some(text), _) => {
                let span = self.span(&text);
                let ExprKind::Text(value) = self.atom(&text)?.kind else { return None };
                SubjectOf::File(value, span)
            }
            (None, plan) => SubjectOf::Plan(self.reference(&plan?)?),
        };
        let seed = match child(pair, Rule::int) {
            Some(seed) => Some(self.whole_number(&seed)?),
            None => None,
        };
        let simulate = child(pair, Rule::kw_simulate).is_some();
        Some(Subject { simulate, of, operation: self.nth_name(pair, 0)?, seed, span: self.span(pair) })
    }

    fn given(&mut self, pair: &Pair<'_>) -> Option<Given> {
        let has = |rule| child(pair, rule).is_some();
        let kind = if has(Rule::kw_crashes) {
            GivenKind::Crashes
        } else if has(Rule::kw_slowed) {
            let (left, right) = (self.nth_scoped(pair, 0)?, self.nth_scoped(pair, 1)?);
            GivenKind::Slowed { left, right, rate: self.child_expr(pair)? }
        } else if has(Rule::kw_boots) {
            let at_once = self.whole_number(&child(pair, Rule::int)?)?;
            GivenKind::Boots { site: self.nth_scoped(pair, 0)?, at_once }
        } else {
            let of = self.reference(&child(pair, Rule::ref_)?)?;
            if has(Rule::kw_fails) {
                GivenKind::Fails { step: of, times: self.whole_number(&child(pair, Rule::int)?)? }
            } else if has(Rule::kw_answered) {
                let after = match child(pair, Rule::expr).is_some() {
                    true => Some(self.child_expr(pair)?),
                    false => None,
                };
                GivenKind::Answered { step: of, yes: has(Rule::kw_yes), after }
            } else {
                GivenKind::Unreachable(of)
            }
        };
        Some(Given { kind, span: self.span(pair) })
    }

    fn expectation(&mut self, pair: &Pair<'_>) -> Option<Expectation> {
        let mut references = Vec::new();
        for reference in children(pair, Rule::ref_) {
            references.push(self.reference(&reference)?);
        }
        let mut references = references.into_iter();
        let kind = match (child(pair, Rule::cmp), child(pair, Rule::error_code)) {
            (Some(comparison), _) => ExpectationKind::Holds(self.comparison(&comparison)?),
            (None, Some(code)) => ExpectationKind::Error(self.name(&code)),
            (None, None) => match (references.next()?, references.next()) {
                (left, Some(right)) => {
                    let before = child(pair, Rule::kw_before).is_some();
                    ExpectationKind::Order { left, before, right }
                }
                (never, None) => ExpectationKind::Never(never),
            },
        };
        Some(Expectation { kind, span: self.span(pair) })
    }
}
