//! The only place that knows pest: the generated parser and its types under shorter names.

use pest::Parser as _;
use pest::error::InputLocation;

// What the derive makes is public by its nature; the module is not.
mod generated {
    #[derive(Debug, pest_derive::Parser)]
    #[grammar = "plan.pest"]
    pub(crate) struct PlanParser;
}

use generated::PlanParser;
pub(crate) use generated::Rule;

pub(crate) type Pair<'i> = pest::iterators::Pair<'i, Rule>;

/// The whole file; the error is the offset up to which it could be read.
pub(crate) fn read_file(text: &str) -> Result<Pair<'_>, usize> {
    match PlanParser::parse(Rule::file, text) {
        Ok(mut pairs) => pairs.next().ok_or(0),
        Err(error) => Err(furthest(&error)),
    }
}

/// How far `text` can be read as `rule`.
pub(crate) fn readable_length(rule: Rule, text: &str) -> usize {
    PlanParser::parse(rule, text).map_or_else(|error| furthest(&error), |_| text.len())
}

/// Whether all of `text` is one `rule`.
pub(crate) fn is_readable(rule: Rule, text: &str) -> bool {
    PlanParser::parse(rule, text).is_ok()
}

fn furthest(error: &pest::error::Error<Rule>) -> usize {
    match error.location {
        InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
    }
}
