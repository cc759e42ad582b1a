//! One logical line: its words with canonical spaces, and where it breaks when it is too long.

use crate::layout::{INDENT, WIDTH_MAX};
use muster_syntax::tree::{Element, Node, NodeKind, TokenKind, Tree};

/// A word, a mark, or a comment inside brackets.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) text: String,
    kind: TokenKind,
    /// Brackets around it, its own included for a bracket itself.
    depth: usize,
    /// No blank between this and the piece before: `f(`, `list(`.
    glued: bool,
}

impl Piece {
    fn is_comment(&self) -> bool {
        matches!(self.kind, TokenKind::Comment | TokenKind::DocComment)
    }
    fn is_mark(&self, marks: &str) -> bool {
        self.kind == TokenKind::Mark && self.text.len() == 1 && marks.contains(self.text.as_str())
    }
}

pub(crate) fn pieces(tree: &Tree, node: &Node) -> Vec<Piece> {
    let mut pieces = Vec::new();
    collect(tree, &node.children, 0, &mut pieces);
    pieces
}

/// The pieces before the block of a line.
pub(crate) fn head_pieces(tree: &Tree, node: &Node) -> Vec<Piece> {
    let block =
        node.children.iter().position(|child| matches!(child, Element::Node(inner) if inner.kind == NodeKind::Block));
    let mut pieces = Vec::new();
    collect(tree, node.children.get(..block.unwrap_or(node.children.len())).unwrap_or_default(), 0, &mut pieces);
    pieces
}

fn collect(tree: &Tree, children: &[Element], depth: usize, into: &mut Vec<Piece>) {
    for child in children {
        match child {
            Element::Node(node) => {
                let deeper = depth + usize::from(matches!(node.kind, NodeKind::Brackets | NodeKind::Names));
                collect(tree, &node.children, deeper, into);
            }
            Element::Token(token) => {
                if matches!(token.kind, TokenKind::Space | TokenKind::Newline | TokenKind::ByteOrderMark) {
                    continue;
                }
                let text = tree.slice(&token.range).trim_end().to_owned();
                // A bracket belongs to the word before it: a call, parameters, a type. After a mark it stands for itself,
                // and after a word of the language it is a value.
                let glued = text == "(" && token.kind == TokenKind::Mark && into.last().is_some_and(takes_arguments);
                into.push(Piece { text, kind: token.kind, depth, glued });
            }
        }
    }
}

fn takes_arguments(before: &Piece) -> bool {
    const NEVER: [&str; 9] = ["within", "usually", "every", "wait", "as", "when", "by", "from", "expect"];
    matches!(before.kind, TokenKind::Word | TokenKind::Literal) && !NEVER.contains(&before.text.as_str())
}

fn blank_between(before: &Piece, piece: &Piece) -> bool {
    let closes = piece.is_mark(")]") || piece.is_mark(",") || piece.is_mark(":");
    !(closes || before.is_mark("([") || piece.glued)
}

/// All on one line; a `,` before a closing bracket is dropped.
pub(crate) fn flat(pieces: &[Piece]) -> String {
    let mut text = String::new();
    let mut before: Option<&Piece> = None;
    for (index, piece) in pieces.iter().enumerate() {
        let is_last_comma = piece.is_mark(",") && pieces.get(index + 1).is_some_and(|next| next.is_mark(")]}"));
        if is_last_comma {
            continue;
        }
        if before.is_some_and(|before| blank_between(before, piece)) {
            text.push(' ');
        }
        text.push_str(&piece.text);
        before = Some(piece);
    }
    text
}

/// On one line when it fits and holds no comment; else the longest outer bracket is broken, one element a line.
/// `used` columns stand before it on its line.
pub(crate) fn fit(pieces: &[Piece], indent: usize, used: usize) -> String {
    let has_comment = pieces.iter().any(Piece::is_comment);
    let line = flat(pieces);
    let first_line = line.lines().next().unwrap_or("").chars().count();
    if !has_comment && indent + used + first_line <= WIDTH_MAX {
        return with_blocks_indented(pieces, indent, line);
    }
    let Some((open, close)) = longest_bracket(pieces) else { return with_blocks_indented(pieces, indent, line) };
    let pad = " ".repeat(indent + INDENT);
    let mut text = join(&pieces[..=open], indent, used);
    for element in elements(&pieces[open + 1..close]) {
        text.push_str(&format!("\n{pad}{element}", element = element.print(indent + INDENT)));
    }
    let tail = fit(&pieces[close..], indent, 0);
    format!("{text}\n{}{tail}", " ".repeat(indent))
}

/// The part before a broken bracket may itself hold brackets with comments.
fn join(pieces: &[Piece], indent: usize, used: usize) -> String {
    match pieces.split_last() {
        Some((open, before)) if before.iter().any(Piece::is_comment) => {
            let text = fit(before, indent, used);
            let blank = before.last().is_some_and(|last| blank_between(last, open));
            format!("{text}{}{}", if blank { " " } else { "" }, open.text)
        }
        _ => flat(pieces),
    }
}

struct Part<'p> {
    pieces: &'p [Piece],
    /// Comments after it, on its line or below.
    comment: Option<&'p Piece>,
    is_comment: bool,
}

impl Part<'_> {
    fn print(&self, indent: usize) -> String {
        if self.is_comment {
            return self.comment.map_or_else(String::new, |comment| comment.text.clone());
        }
        let text = fit(self.pieces, indent, 1);
        match self.comment {
            Some(comment) => format!("{text},  {}", comment.text),
            None => format!("{text},"),
        }
    }
}

/// Cuts what stands between two brackets at its own commas. Comments before an element stand on their own lines.
fn elements(pieces: &[Piece]) -> Vec<Part<'_>> {
    let depth = pieces.iter().map(|piece| piece.depth).min().unwrap_or(0);
    let mut elements: Vec<Part<'_>> = Vec::new();
    let mut start = 0;
    let mut index = 0;
    while let Some(piece) = pieces.get(index) {
        let is_own = piece.depth == depth;
        if is_own && piece.is_mark(",") {
            if start < index {
                elements.push(Part { pieces: &pieces[start..index], comment: None, is_comment: false });
            }
            start = index + 1;
        } else if is_own && piece.is_comment() {
            let ends_element = start < index;
            if ends_element {
                elements.push(Part { pieces: &pieces[start..index], comment: None, is_comment: false });
            }
            match elements.last_mut().filter(|last| last.comment.is_none() && !last.is_comment) {
                Some(last) => last.comment = Some(piece),
                None => elements.push(Part { pieces: &[], comment: Some(piece), is_comment: true }),
            }
            start = index + 1;
        }
        index += 1;
    }
    if start < pieces.len() {
        elements.push(Part { pieces: &pieces[start..], comment: None, is_comment: false });
    }
    elements
}

/// The outermost bracket pair with a comment inside, else the one with most to say.
fn longest_bracket(pieces: &[Piece]) -> Option<(usize, usize)> {
    let mut best: Option<(bool, usize, usize, usize)> = None;
    let mut open: Option<usize> = None;
    let mut depth = 0usize;
    for (index, piece) in pieces.iter().enumerate() {
        if piece.is_mark("([{") {
            if depth == 0 {
                open = Some(index);
            }
            depth += 1;
        } else if piece.is_mark(")]}") {
            depth = depth.saturating_sub(1);
            if let Some(open) = open.filter(|_| depth == 0) {
                let inside = &pieces[open + 1..index];
                let length: usize = inside.iter().map(|piece| piece.text.len() + 1).sum();
                let candidate = (inside.iter().any(Piece::is_comment), length, open, index);
                if length > 0 && best.is_none_or(|best| (candidate.0, candidate.1) > (best.0, best.1)) {
                    best = Some(candidate);
                }
            }
        }
    }
    best.map(|(_, _, open, close)| (open, close))
}

/// Text blocks that stand alone on their lines are moved to the indent of their line.
fn with_blocks_indented(pieces: &[Piece], indent: usize, line: String) -> String {
    let mut text = line;
    for piece in pieces.iter().filter(|piece| piece.kind == TokenKind::BlockText) {
        let moved = moved_block(&piece.text, indent);
        text = text.replacen(&piece.text, &moved, 1);
    }
    text
}

fn moved_block(raw: &str, indent: usize) -> String {
    let inner = raw.get(3..raw.len().saturating_sub(3)).unwrap_or("").replace("\r\n", "\n");
    let Some((first, rest)) = inner.split_once('\n') else { return raw.to_owned() };
    let mut lines: Vec<&str> = rest.split('\n').collect();
    let ends_alone = lines.last().is_some_and(|last| last.trim().is_empty());
    if !first.trim().is_empty() || !ends_alone {
        return raw.to_owned();
    }
    lines.pop();
    let common = muster_syntax::common_indent(&lines);
    let pad = " ".repeat(indent + INDENT);
    let mut text = "\"\"\"\n".to_owned();
    for line in lines {
        let line = line.get(common..).filter(|line| !line.trim().is_empty());
        if let Some(line) = line {
            text.push_str(&pad);
            text.push_str(line);
        }
        text.push('\n');
    }
    text.push_str(&" ".repeat(indent));
    text.push_str("\"\"\"");
    text
}
