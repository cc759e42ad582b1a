//! From grammar pairs to the lossless tree: nodes for lines and blocks, one leaf for every byte between.

use crate::grammar::{Pair, Rule};
use crate::scan::Scan;
use crate::tree::{Element, Node, NodeKind, Token, TokenKind};
use std::ops::Range;

pub(crate) struct Grower<'s> {
    pub(crate) source: &'s str,
    pub(crate) scan: &'s Scan,
}

impl Grower<'_> {
    /// The root covers the whole source, whatever the grammar made of it.
    pub(crate) fn root(&self, file: Pair<'_>) -> Node {
        let mut children = Vec::new();
        for pair in file.into_inner() {
            self.push(pair, &mut children);
        }
        let range = 0..self.source.len();
        Node { kind: NodeKind::File, children: self.filled(&range, children), range }
    }

    fn push(&self, pair: Pair<'_>, into: &mut Vec<Element>) {
        let span = pair.as_span();
        let start = self.scan.source_offset(span.start());
        let end = self.scan.source_offset(span.end());
        let end = self.scan.trim_end(self.source, start, end.max(start));
        let range = start..end;
        if let Some(kind) = token_kind(pair.as_rule()) {
            if !range.is_empty() {
                into.push(Element::Token(Token { kind, range }));
            }
            return;
        }
        if pair.as_rule() == Rule::junk {
            let token = Element::Token(Token { kind: TokenKind::Junk, range: range.clone() });
            if !range.is_empty() {
                into.push(Element::Node(Node { kind: NodeKind::Junk, children: vec![token], range }));
            }
            return;
        }
        match node_kind(pair.as_rule()) {
            Some(kind) => {
                let mut children = Vec::new();
                for child in pair.into_inner() {
                    self.push(child, &mut children);
                }
                into.push(Element::Node(Node { kind, children: self.filled(&range, children), range }));
            }
            None => pair.into_inner().for_each(|child| self.push(child, into)),
        }
    }

    /// Puts leaves for marks, blanks and comments between `children`, so that all of `range` is covered once.
    fn filled(&self, range: &Range<usize>, children: Vec<Element>) -> Vec<Element> {
        let mut filled = Vec::with_capacity(children.len() * 2);
        let mut at = range.start;
        for child in children {
            let place = child.range();
            if place.start < at || place.end > range.end {
                continue;
            }
            self.gap(at..place.start, &mut filled);
            at = place.end;
            filled.push(child);
        }
        self.gap(at..range.end, &mut filled);
        filled
    }

    fn gap(&self, range: Range<usize>, into: &mut Vec<Element>) {
        let mut at = range.start;
        while at < range.end {
            let Some(rest) = self.source.get(at..range.end).filter(|rest| !rest.is_empty()) else { return };
            let (kind, length) = leaf(rest, at == 0);
            into.push(Element::Token(Token { kind, range: at..at + length }));
            at += length;
        }
    }
}

/// The first leaf of `text`, which is not empty.
fn leaf(text: &str, at_file_start: bool) -> (TokenKind, usize) {
    let length_while = |test: fn(char) -> bool| text.find(|c| !test(c)).unwrap_or(text.len());
    if at_file_start && text.starts_with('\u{feff}') {
        return (TokenKind::ByteOrderMark, 3);
    }
    match text.chars().next().unwrap_or(' ') {
        ' ' | '\t' => (TokenKind::Space, length_while(|c| c == ' ' || c == '\t')),
        '\r' if text.starts_with("\r\n") => (TokenKind::Newline, 2),
        '\n' | '\r' => (TokenKind::Newline, 1),
        '#' => {
            let kind = if text.starts_with("##") { TokenKind::DocComment } else { TokenKind::Comment };
            (kind, length_while(|c| c != '\n' && c != '\r'))
        }
        c if c.is_ascii_alphabetic() => {
            (TokenKind::Word, length_while(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'))
        }
        _ if text.starts_with("<->") => (TokenKind::Mark, 3),
        _ if text.starts_with("->") => (TokenKind::Mark, 2),
        c if c.is_ascii_punctuation() => (TokenKind::Mark, 1),
        c => (TokenKind::Junk, c.len_utf8()),
    }
}

fn token_kind(rule: Rule) -> Option<TokenKind> {
    Some(match rule {
        Rule::name | Rule::scoped | Rule::arg_name | Rule::word_every | Rule::word_after => TokenKind::Word,
        Rule::year | Rule::path | Rule::days | Rule::hours | Rule::zone | Rule::int | Rule::quantity | Rule::ip => {
            TokenKind::Literal
        }
        Rule::cidr | Rule::mac | Rule::ref_ | Rule::error_code => TokenKind::Literal,
        Rule::text => TokenKind::Text,
        Rule::text_block => TokenKind::BlockText,
        Rule::cmp_op | Rule::sum_op | Rule::product_op | Rule::every_machine => TokenKind::Mark,
        _ => return None,
    })
}

fn node_kind(rule: Rule) -> Option<NodeKind> {
    Some(match rule {
        Rule::edition => NodeKind::Edition,
        Rule::use_ => NodeKind::Use,
        Rule::let_ | Rule::secret | Rule::fact | Rule::move_ | Rule::network | Rule::window => NodeKind::Fact,
        Rule::pair => NodeKind::Pair,
        Rule::site | Rule::route | Rule::place | Rule::machine | Rule::team | Rule::policy | Rule::group => {
            NodeKind::BlockLine
        }
        Rule::hook | Rule::template | Rule::plan | Rule::stage | Rule::test => NodeKind::BlockLine,
        Rule::when_block | Rule::down | Rule::parallel => NodeKind::BlockLine,
        Rule::step => NodeKind::Step,
        Rule::require => NodeKind::Require,
        Rule::subject | Rule::given | Rule::expectation => NodeKind::TestLine,
        Rule::facts | Rule::site_block | Rule::route_block | Rule::plan_block | Rule::body | Rule::test_block => {
            NodeKind::Block
        }
        Rule::names => NodeKind::Names,
        Rule::list | Rule::args | Rule::params | Rule::grouped => NodeKind::Brackets,
        Rule::element | Rule::arg | Rule::param | Rule::name_element => NodeKind::Element,
        _ => return None,
    })
}
