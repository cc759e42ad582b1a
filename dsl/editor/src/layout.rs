//! Lines and blocks: indent, blank lines, comments, and columns aligned within a run of like lines.

use crate::line::{self, Piece};
use muster_syntax::tree::{Element, Node, NodeKind, TokenKind, Tree};

/// Columns before a list or an argument list is broken, or a block is opened up.
pub(crate) const WIDTH_MAX: usize = 110;
pub(crate) const INDENT: usize = 2;

/// One line of a block, before its columns are aligned.
struct Entry {
    /// A blank line stands before it.
    spaced: bool,
    kind: EntryKind,
    trailing: Option<String>,
}

enum EntryKind {
    Comment(String),
    /// Columns of like lines are aligned; the last column may run over several lines.
    Line {
        like: Like,
        columns: Vec<String>,
    },
}

/// Lines of one likeness that follow each other share their columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Like {
    Fact,
    Use,
    PairOfNames,
    PairOfAddresses,
    Step,
    /// Aligned with nothing.
    Own,
}

pub(crate) fn file(tree: &Tree) -> String {
    let lines = block_lines(tree, &tree.root.children, 0);
    let mut text = lines.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// The lines between the braces of a block, indented.
fn block_lines(tree: &Tree, children: &[Element], indent: usize) -> Vec<String> {
    let mut entries = entries(tree, children, indent);
    align(&mut entries);
    let pad = " ".repeat(indent);
    let mut lines = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        if entry.spaced && index > 0 {
            lines.push(String::new());
        }
        match &entry.kind {
            EntryKind::Comment(text) => lines.push(format!("{pad}{text}")),
            EntryKind::Line { columns, .. } => {
                let text = columns.concat();
                let text = text.trim_end();
                match &entry.trailing {
                    Some(comment) => lines.push(format!("{pad}{text}  {comment}")),
                    None => lines.push(format!("{pad}{text}")),
                }
            }
        }
    }
    lines
}

fn entries(tree: &Tree, children: &[Element], indent: usize) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut newlines = 0;
    let mut on_line = false;
    for child in children {
        match child {
            Element::Node(node) => {
                let (like, columns) = columns(tree, node, indent);
                entries.push(Entry { spaced: newlines > 1, kind: EntryKind::Line { like, columns }, trailing: None });
                newlines = 0;
                on_line = true;
            }
            Element::Token(token) => match token.kind {
                TokenKind::Newline => {
                    newlines += 1;
                    on_line = false;
                }
                TokenKind::Comment | TokenKind::DocComment => {
                    let text = tree.slice(&token.range).trim_end().to_owned();
                    match entries.last_mut() {
                        Some(last) if on_line && last.trailing.is_none() => last.trailing = Some(text),
                        _ => {
                            entries.push(Entry { spaced: newlines > 1, kind: EntryKind::Comment(text), trailing: None })
                        }
                    }
                    newlines = 0;
                }
                _ => {}
            },
        }
    }
    entries
}

/// Pads the columns of each run, then the trailing comments of each run of commented lines.
fn align(entries: &mut [Entry]) {
    let mut start = 0;
    while start < entries.len() {
        let Some(like) = like_of(&entries[start]) else {
            start += 1;
            continue;
        };
        let mut end = start + 1;
        while end < entries.len() && !entries[end].spaced && like_of(&entries[end]).is_none_or(|other| other == like) {
            end += 1;
        }
        pad_columns(&mut entries[start..end]);
        start = end;
    }
    let mut start = 0;
    while start < entries.len() {
        let mut end = start;
        while end < entries.len() && entries[end].trailing.is_some() && (end == start || !entries[end].spaced) {
            end += 1;
        }
        pad_ends(&mut entries[start..end]);
        start = end.max(start + 1);
    }
}

fn like_of(entry: &Entry) -> Option<Like> {
    match &entry.kind {
        EntryKind::Line { like, .. } => Some(*like),
        EntryKind::Comment(_) => None,
    }
}

fn pad_columns(run: &mut [Entry]) {
    let mut widths: Vec<usize> = Vec::new();
    for entry in run.iter() {
        let EntryKind::Line { columns, .. } = &entry.kind else { continue };
        for (index, column) in columns.iter().enumerate().take(columns.len().saturating_sub(1)) {
            if widths.len() <= index {
                widths.push(0);
            }
            widths[index] = widths[index].max(column.chars().count());
        }
    }
    for entry in run {
        let EntryKind::Line { columns, .. } = &mut entry.kind else { continue };
        let last = columns.len().saturating_sub(1);
        for (column, width) in columns.iter_mut().take(last).zip(&widths) {
            let missing = width.saturating_sub(column.chars().count());
            column.push_str(&" ".repeat(missing));
        }
    }
}

/// Trailing comments of a run stand in one column. Lines that run over several lines are left out.
fn pad_ends(run: &mut [Entry]) {
    let end_of = |entry: &Entry| match &entry.kind {
        EntryKind::Line { columns, .. } => {
            let text = columns.concat();
            (!text.contains('\n')).then(|| text.trim_end().chars().count())
        }
        EntryKind::Comment(_) => None,
    };
    let widest = run.iter().filter_map(end_of).max().unwrap_or(0);
    for entry in run {
        let Some(end) = end_of(entry) else { continue };
        let comment = entry.trailing.take().map(|comment| format!("{}{comment}", " ".repeat(widest - end)));
        entry.trailing = comment;
    }
}

/// A line cut into the columns that its likes share.
fn columns(tree: &Tree, node: &Node, indent: usize) -> (Like, Vec<String>) {
    let pieces = line::pieces(tree, node);
    match node.kind {
        NodeKind::Fact => match pieces.iter().position(|piece| piece.text == "=") {
            Some(equals) => {
                let head = line::flat(&pieces[..equals]);
                (Like::Fact, vec![format!("{head} "), line::fit(&pieces[equals..], indent, head.chars().count() + 1)])
            }
            None => (Like::Own, vec![line::fit(&pieces, indent, 0)]),
        },
        NodeKind::Use => match pieces.iter().position(|piece| piece.text == "{") {
            Some(brace) => {
                let head = line::flat(&pieces[..brace]);
                (Like::Use, vec![format!("{head} "), line::fit(&pieces[brace..], indent, head.chars().count() + 1)])
            }
            None => (Like::Own, vec![line::fit(&pieces, indent, 0)]),
        },
        NodeKind::Pair => pair_columns(&pieces),
        NodeKind::Step => {
            let verb = line::flat(pieces.get(..1).unwrap_or_default());
            let rest = line::fit(pieces.get(1..).unwrap_or_default(), indent, verb.chars().count() + 1);
            (Like::Step, vec![format!("{verb} "), rest])
        }
        NodeKind::BlockLine => (Like::Own, vec![block_line(tree, node, indent)]),
        _ => (Like::Own, vec![line::fit(&pieces, indent, 0)]),
    }
}

fn pair_columns(pieces: &[Piece]) -> (Like, Vec<String>) {
    let arrow = pieces.iter().position(|piece| piece.text == "<->").unwrap_or(0);
    let left = line::flat(&pieces[..arrow]);
    let is_address = pieces.iter().any(|piece| piece.text.contains(['.', ':'])) || arrow > 1;
    let like = if is_address { Like::PairOfAddresses } else { Like::PairOfNames };
    if is_address {
        return (like, vec![line::flat(pieces)]);
    }
    let cut = (arrow + 2).min(pieces.len());
    (like, vec![format!("{left} "), format!("{} ", line::flat(&pieces[arrow..cut])), line::flat(&pieces[cut..])])
}

/// A head and its block. A block written on one line stays on one when it fits and holds no comment.
fn block_line(tree: &Tree, node: &Node, indent: usize) -> String {
    let block = node.children.iter().find_map(|child| match child {
        Element::Node(inner) if inner.kind == NodeKind::Block => Some(inner),
        _ => None,
    });
    let head_pieces = line::head_pieces(tree, node);
    let Some(block) = block else { return line::fit(&head_pieces, indent, 0) };
    let inside = inside_braces(block);
    let is_empty = inside.iter().all(|child| matches!(child, Element::Token(token) if matches!(token.kind, TokenKind::Space | TokenKind::Newline | TokenKind::Mark)));
    let flat_head = line::flat(&head_pieces);
    if is_empty {
        return format!("{} {{ }}", line::fit(&head_pieces, indent, 0));
    }
    let is_one_line = !tree.slice(&block.range).contains(['\n', '\r']);
    if is_one_line {
        let entries = entries(tree, inside, 0);
        let parts: Vec<String> = entries
            .iter()
            .filter_map(|entry| match &entry.kind {
                EntryKind::Line { columns, .. } => Some(columns.concat().trim_end().to_owned()),
                EntryKind::Comment(_) => None,
            })
            .collect();
        let line = format!("{flat_head} {{ {} }}", parts.join("; "));
        if !line.contains('\n') && indent + line.chars().count() <= WIDTH_MAX {
            return line;
        }
    }
    let head = line::fit(&head_pieces, indent, 0);
    // A comment right after the brace stays there.
    let (opening, inside) = opening_comment(tree, inside);
    let opening = opening.map_or_else(String::new, |comment| format!("  {comment}"));
    let lines = block_lines(tree, inside, indent + INDENT);
    let between = if lines.is_empty() { String::new() } else { format!("{}\n", lines.join("\n")) };
    format!("{head} {{{opening}\n{between}{}}}", " ".repeat(indent))
}

fn inside_braces(block: &Node) -> &[Element] {
    let last = block.children.len().saturating_sub(1);
    block.children.get(1..last).unwrap_or_default()
}

fn opening_comment<'t>(tree: &'t Tree, inside: &'t [Element]) -> (Option<&'t str>, &'t [Element]) {
    for (index, child) in inside.iter().enumerate() {
        let Element::Token(token) = child else { break };
        match token.kind {
            TokenKind::Space => {}
            TokenKind::Comment | TokenKind::DocComment => {
                return (Some(tree.slice(&token.range).trim_end()), inside.get(index + 1..).unwrap_or_default());
            }
            _ => break,
        }
    }
    (None, inside)
}
