//! From grammar pairs to the typed view: files, blocks and facts. Steps are in `build_steps`, values in `build_values`.

use crate::ast::{
    Block, Edition, End, Fact, FactValue, File, Hook, Item, Let, Machine, Name, Network, Pair as Correspondence,
    PairTest, Parameter, Place, Plan, Route, Secret, Site, Stage, Template, Test, Type, Use, UseNames, Window,
};
use crate::explain::{self, Place as Where};
use crate::grammar::{Pair, Rule};
use crate::scan::Scan;
use muster_diagnostics::{Applicability, Diagnostic, Span};

/// The newest edition, and so far the only one.
const EDITION: u32 = 2026;
/// Messages of one file up to which a way to mend a line is looked for.
const SEARCHES_MAX: usize = 20;

pub(crate) struct Builder<'s> {
    pub(crate) source: &'s str,
    pub(crate) scan: &'s Scan,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Lines and blocks that were left out.
    pub(crate) unread: Vec<Span>,
}

/// The first child of a rule.
pub(crate) fn child<'i>(pair: &Pair<'i>, rule: Rule) -> Option<Pair<'i>> {
    pair.clone().into_inner().find(|inner| inner.as_rule() == rule)
}

/// All children of a rule.
pub(crate) fn children<'i>(pair: &Pair<'i>, rule: Rule) -> impl Iterator<Item = Pair<'i>> {
    pair.clone().into_inner().filter(move |inner| inner.as_rule() == rule)
}

impl Builder<'_> {
    pub(crate) fn span(&self, pair: &Pair<'_>) -> Span {
        let span = pair.as_span();
        let start = self.scan.source_offset(span.start());
        let end = self.scan.source_offset(span.end()).max(start);
        self.scan.span(&(start..self.scan.trim_end(self.source, start, end)))
    }

    pub(crate) fn name(&self, pair: &Pair<'_>) -> Name {
        Name { text: pair.as_str().to_owned(), span: self.span(pair) }
    }

    /// The nth name that is a direct child.
    pub(crate) fn nth_name(&self, pair: &Pair<'_>, index: usize) -> Option<Name> {
        children(pair, Rule::name).nth(index).map(|name| self.name(&name))
    }

    /// The nth name that may lie in another file: `hq`, `s.hq`. The file's part stays in its text.
    pub(crate) fn nth_scoped(&self, pair: &Pair<'_>, index: usize) -> Option<Name> {
        children(pair, Rule::scoped).nth(index).map(|name| self.name(&name))
    }

    /// The text of the `##` lines right above.
    pub(crate) fn doc(&self, span: Span) -> Option<String> {
        let comments = &self.scan.comments;
        let mut start = span.start as usize;
        let mut lines = Vec::new();
        let mut index = comments.partition_point(|comment| comment.end <= start);
        while let Some(comment) = index.checked_sub(1).and_then(|before| comments.get(before)) {
            let between = self.source.get(comment.end..start).unwrap_or("x");
            let is_right_above =
                between.trim().is_empty() && between.replace("\r\n", "\n").matches(['\n', '\r']).count() == 1;
            let line_start =
                self.source.get(..comment.start).and_then(|text| text.rfind(['\n', '\r'])).map_or(0, |at| at + 1);
            let is_alone = self
                .source
                .get(line_start..comment.start)
                .is_some_and(|text| text.trim_matches('\u{feff}').trim().is_empty());
            let text = self.source.get(comment.clone()).unwrap_or("");
            let Some(text) = text.strip_prefix("##").filter(|_| is_right_above && is_alone) else { break };
            lines.push(text.strip_prefix(' ').unwrap_or(text).trim_end().to_owned());
            start = comment.start;
            index -= 1;
        }
        lines.reverse();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    pub(crate) fn junk(&mut self, pair: &Pair<'_>, place: Where) {
        let span = self.span(pair);
        self.unread.push(span);
        let range = span.start as usize..span.end as usize;
        if !self.scan.is_damaged(&range) {
            if self.diagnostics.len() >= crate::DIAGNOSTICS_MAX {
                return;
            }
            let text = pair.as_str().trim_end();
            // The search costs some readings of the line; in a file that is no plan at all it is not worth them.
            let search = self.diagnostics.len() < SEARCHES_MAX;
            self.diagnostics.push(explain::junk(span, text, place, search));
        }
    }

    pub(crate) fn file(&mut self, file: &Pair<'_>) -> File {
        let mut result = File::default();
        // The first line may be the edition, and could not be read.
        let mut begins_unread = false;
        for (index, pair) in file.clone().into_inner().filter(|pair| pair.as_rule() != Rule::EOI).enumerate() {
            match pair.as_rule() {
                Rule::edition => self.edition(&pair, index, &mut result),
                Rule::junk => {
                    begins_unread |= index == 0;
                    self.junk(&pair, Where::File);
                }
                _ => result.items.extend(self.item(&pair)),
            }
        }
        if result.edition.is_none() && !result.items.is_empty() && !self.names_edition() && !begins_unread {
            let start = self.scan.span(&(0..0));
            self.diagnostics.push(
                Diagnostic::info(102, "this file does not name its edition", start, "the newest edition holds")
                    .help(format!("begin the file with `edition {EDITION}`; `muster fmt` writes it"))
                    .fix(start, format!("edition {EDITION}\n"), Applicability::Certain),
            );
        }
        result
    }

    /// An edition line that was reported already.
    fn names_edition(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.code.0 == 102)
    }

    fn edition(&mut self, pair: &Pair<'_>, index: usize, file: &mut File) {
        let span = self.span(pair);
        let Some(year) = child(pair, Rule::year) else { return };
        let year_span = self.span(&year);
        if index > 0 {
            self.diagnostics.push(
                Diagnostic::error(102, "`edition` must be the first line of a file", span, "found here")
                    .help(format!("move `edition {EDITION}` to the first line, and name it once")),
            );
        } else if year.as_str().parse() == Ok(EDITION) {
            file.edition = Some(Edition { year: EDITION, span });
        } else {
            self.diagnostics.push(
                Diagnostic::error(
                    102,
                    format!("unknown edition `{}`", year.as_str()),
                    year_span,
                    "not an edition this muster knows",
                )
                .help(format!("write `edition {EDITION}`, or use the muster that knows this edition"))
                .fix(year_span, EDITION.to_string(), Applicability::Maybe),
            );
        }
    }

    fn item(&mut self, pair: &Pair<'_>) -> Option<Item> {
        let span = self.span(pair);
        let doc = self.doc(span);
        let name = self.nth_name(pair, 0);
        Some(match pair.as_rule() {
            Rule::use_ => Item::Use(self.use_(pair)?),
            Rule::let_ => Item::Let(Let { name: name?, value: self.child_expr(pair)?, span, doc }),
            Rule::secret => Item::Secret(Secret { name: name?, source: self.child_call(pair)?, span, doc }),
            Rule::site => Item::Site(self.site(pair)?),
            Rule::route => Item::Route(self.route(pair)?),
            Rule::place => Item::Place(self.place(pair)?),
            Rule::machine => Item::Machine(Machine {
                name: name?,
                site: self.nth_scoped(pair, 0)?,
                facts: self.facts(pair),
                span,
                doc,
            }),
            Rule::window => Item::Window(Window {
                name: name?,
                days: self.name(&child(pair, Rule::days)?),
                hours: self.name(&child(pair, Rule::hours)?),
                zone: self.name(&child(pair, Rule::zone)?),
                span,
                doc,
            }),
            Rule::team => Item::Team(self.block(pair)?),
            Rule::policy => Item::Policy(self.block(pair)?),
            Rule::group => Item::Group(self.block(pair)?),
            Rule::hook => Item::Hook(Hook {
                probe: child(pair, Rule::kw_probe).is_some(),
                name: name?,
                parameters: self.parameters(pair),
                facts: self.facts(pair),
                span,
                doc,
            }),
            Rule::template => {
                let parameters = self.parameters(pair);
                Item::Template(Template { name: name?, parameters, body: self.child_body(pair)?, span, doc })
            }
            Rule::plan => Item::Plan(self.plan(pair)?),
            Rule::test => {
                let title = self.child_expr(pair)?;
                let (lines, whole) = self.test_lines(&child(pair, Rule::test_block)?);
                Item::Test(Test { title, lines, span, whole })
            }
            _ => return None,
        })
    }

    fn use_(&self, pair: &Pair<'_>) -> Option<Use> {
        let path = self.name(&child(pair, Rule::path)?);
        let names = match (child(pair, Rule::names), self.nth_name(pair, 0)) {
            (Some(names), _) => UseNames::Some(
                children(&names, Rule::name_element).filter_map(|element| self.nth_name(&element, 0)).collect(),
            ),
            (None, Some(name)) => UseNames::As(name),
            (None, None) => UseNames::Bare,
        };
        Some(Use { path, names, span: self.span(pair) })
    }

    fn site(&mut self, pair: &Pair<'_>) -> Option<Site> {
        let span = self.span(pair);
        let block = child(pair, Rule::site_block)?;
        let (mut facts, mut networks) = (Vec::new(), Vec::new());
        for line in block.into_inner() {
            match line.as_rule() {
                Rule::fact => facts.extend(self.fact(&line)),
                Rule::network => networks.extend(self.network(&line)),
                Rule::junk => self.junk(&line, Where::Site),
                _ => {}
            }
        }
        Some(Site { name: self.nth_name(pair, 0)?, facts, networks, span, doc: self.doc(span) })
    }

    fn network(&mut self, pair: &Pair<'_>) -> Option<Network> {
        let label = match child(pair, Rule::network_label) {
            Some(label) => Some(self.child_expr(&label)?),
            None => None,
        };
        Some(Network { name: self.nth_name(pair, 0)?, cidr: self.child_expr(pair)?, label, span: self.span(pair) })
    }

    fn route(&mut self, pair: &Pair<'_>) -> Option<Route> {
        let span = self.span(pair);
        let block = child(pair, Rule::route_block)?;
        let (mut facts, mut pairs) = (Vec::new(), Vec::new());
        for line in block.into_inner() {
            match line.as_rule() {
                Rule::fact => facts.extend(self.fact(&line)),
                Rule::pair => pairs.extend(self.pair(&line)),
                Rule::junk => self.junk(&line, Where::Route),
                _ => {}
            }
        }
        let (left, right) = (self.nth_scoped(pair, 0)?, self.nth_scoped(pair, 1)?);
        Some(Route { left, right, facts, pairs, span, doc: self.doc(span) })
    }

    fn pair(&mut self, pair: &Pair<'_>) -> Option<Correspondence> {
        let ends: Vec<_> = children(pair, Rule::end).collect();
        let left = self.end(ends.first()?)?;
        let right = self.end(ends.get(1)?)?;
        let test = child(pair, Rule::pair_test).and_then(|test| match child(&test, Rule::kw_isolated) {
            Some(isolated) => Some(PairTest::Isolated(self.span(&isolated))),
            None => self.nth_name(&test, 0).map(PairTest::Network),
        });
        Some(Correspondence {
            resolver: child(pair, Rule::kw_resolver).is_some(),
            left,
            right,
            test,
            span: self.span(pair),
        })
    }

    fn end(&mut self, pair: &Pair<'_>) -> Option<End> {
        match child(pair, Rule::ip) {
            Some(ip) => self.address(&ip).then(|| End::Ip(ip.as_str().to_owned(), self.span(&ip))),
            None => self.nth_name(pair, 0).map(End::Network),
        }
    }

    fn place(&mut self, pair: &Pair<'_>) -> Option<Place> {
        let every = child(pair, Rule::every_machine).is_some();
        let machine = if every { None } else { Some(self.nth_name(pair, 0)?) };
        let site = self.nth_scoped(pair, 0)?;
        Some(Place { machine, site, facts: self.facts(pair), span: self.span(pair) })
    }

    fn block(&mut self, pair: &Pair<'_>) -> Option<Block> {
        let span = self.span(pair);
        let like = child(pair, Rule::like).and_then(|like| self.nth_scoped(&like, 0));
        Some(Block { name: self.nth_name(pair, 0)?, like, facts: self.facts(pair), span, doc: self.doc(span) })
    }

    fn facts(&mut self, pair: &Pair<'_>) -> Vec<Fact> {
        let Some(block) = child(pair, Rule::facts) else { return Vec::new() };
        let mut facts = Vec::new();
        for line in block.into_inner() {
            match line.as_rule() {
                Rule::fact => facts.extend(self.fact(&line)),
                Rule::junk => self.junk(&line, Where::Facts),
                _ => {}
            }
        }
        facts
    }

    fn fact(&mut self, pair: &Pair<'_>) -> Option<Fact> {
        let span = self.span(pair);
        let mut values = Vec::new();
        for part in pair.clone().into_inner() {
            match part.as_rule() {
                Rule::every => values.push(self.every(&part)?),
                Rule::expr => values.push(FactValue::Expr(self.expr(&part)?)),
                _ => {}
            }
        }
        let value = match (values.len(), values.first().map(FactValue::span), values.last().map(FactValue::span)) {
            (0, ..) => return None,
            (1, ..) => values.remove(0),
            (_, Some(first), Some(last)) => FactValue::Several { values, span: first.to(last) },
            _ => return None,
        };
        Some(Fact { name: self.nth_name(pair, 0)?, value, when: self.child_when(pair), span, doc: self.doc(span) })
    }

    fn every(&mut self, pair: &Pair<'_>) -> Option<FactValue> {
        let mut durations = children(pair, Rule::expr);
        let interval = self.expr(&durations.next()?)?;
        let lasting = match durations.next() {
            Some(lasting) => Some(self.expr(&lasting)?),
            None => None,
        };
        Some(FactValue::Every { interval, kind: self.nth_name(pair, 0), lasting, span: self.span(pair) })
    }

    fn movement(&mut self, pair: &Pair<'_>) -> Option<Fact> {
        let span = self.span(pair);
        let back = child(pair, Rule::back).and_then(|back| self.nth_scoped(&back, 0));
        let (from, to) = (self.nth_scoped(pair, 0)?, self.nth_scoped(pair, 1)?);
        let value_span = from.span.to(back.as_ref().map_or(to.span, |back| back.span));
        Some(Fact {
            name: self.name(&child(pair, Rule::kw_move)?),
            value: FactValue::Move { from, to, back, span: value_span },
            when: self.child_when(pair),
            span,
            doc: self.doc(span),
        })
    }

    fn parameters(&mut self, pair: &Pair<'_>) -> Vec<Parameter> {
        let Some(params) = child(pair, Rule::params) else { return Vec::new() };
        let mut parameters = Vec::new();
        for param in children(&params, Rule::param) {
            let Some(name) = self.nth_name(&param, 0) else { continue };
            let Some(kind) = child(&param, Rule::kind).and_then(|kind| self.kind(&kind)) else { continue };
            let default = child(&param, Rule::expr).and_then(|value| self.expr(&value));
            parameters.push(Parameter { name, kind, default });
        }
        parameters
    }

    fn kind(&self, pair: &Pair<'_>) -> Option<Type> {
        match child(pair, Rule::kind) {
            Some(inner) => Some(Type::List(Box::new(self.kind(&inner)?), self.span(pair))),
            None => self.nth_name(pair, 0).map(Type::Name),
        }
    }

    fn plan(&mut self, pair: &Pair<'_>) -> Option<Plan> {
        let span = self.span(pair);
        let block = child(pair, Rule::plan_block)?;
        let (mut facts, mut stages) = (Vec::new(), Vec::new());
        for line in block.into_inner() {
            match line.as_rule() {
                Rule::fact => facts.extend(self.fact(&line)),
                Rule::move_ => facts.extend(self.movement(&line)),
                Rule::stage => stages.extend(self.stage(&line)),
                Rule::junk => self.junk(&line, Where::Plan),
                _ => {}
            }
        }
        Some(Plan { name: self.nth_name(pair, 0)?, facts, stages, span, doc: self.doc(span) })
    }

    fn stage(&mut self, pair: &Pair<'_>) -> Option<Stage> {
        let span = self.span(pair);
        let after = child(pair, Rule::after)
            .map(|after| children(&after, Rule::name).map(|name| self.name(&name)).collect())
            .unwrap_or_default();
        Some(Stage { name: self.nth_name(pair, 0)?, after, body: self.child_body(pair)?, span, doc: self.doc(span) })
    }
}
