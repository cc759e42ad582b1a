//! The lossless tree: every byte of a file belongs to exactly one leaf.
//!
//! The formatter and the editor read it; the compiler reads [`crate::ast`]. The tree holds no text of its own kind: leaves are
//! ranges of the source, so `tree.text() == source` holds for every input, good or bad.

use std::ops::Range;
use std::sync::Arc;

/// What a node is. Lines and blocks matter to a formatter; the rest is told by its leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeKind {
    File,
    Edition,
    Use,
    /// A head and a block: `plan shop { ... }`, `stage db after x { ... }`, `when test { ... }`, `hook h(a: text) { ... }`.
    BlockLine,
    /// `name = value`, `let`, `secret`, `network`, `window`: an `=` to align.
    Fact,
    /// `a <-> b test isolated` of a route.
    Pair,
    Step,
    Require,
    /// A line of a `test` block.
    TestLine,
    /// `{ ... }` with lines inside.
    Block,
    /// `{ a, b }` of a `use`.
    Names,
    /// `( ... )` or `[ ... ]`.
    Brackets,
    /// One element inside brackets or names.
    Element,
    /// A line that could not be read.
    Junk,
}

/// What a leaf is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    ByteOrderMark,
    Space,
    Newline,
    /// `# ...` without its newline.
    Comment,
    /// `## ...` without its newline.
    DocComment,
    /// A name, a keyword, a verb.
    Word,
    /// A number, a quantity, an address, a path, a reference: printed as written.
    Literal,
    /// `"..."`.
    Text,
    /// `"""..."""`.
    BlockText,
    /// `=`, `,`, `{`, `<->`, ...
    Mark,
    /// Part of what could not be read.
    Junk,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: TokenKind,
    pub range: Range<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub kind: NodeKind,
    pub range: Range<usize>,
    pub children: Vec<Element>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    Node(Node),
    Token(Token),
}

impl Element {
    pub fn range(&self) -> Range<usize> {
        match self {
            Element::Node(node) => node.range.clone(),
            Element::Token(token) => token.range.clone(),
        }
    }
}

impl TokenKind {
    pub fn is_trivia(self) -> bool {
        matches!(
            self,
            TokenKind::ByteOrderMark
                | TokenKind::Space
                | TokenKind::Newline
                | TokenKind::Comment
                | TokenKind::DocComment
        )
    }
}

impl Node {
    /// All leaves below, in the order of the text.
    pub fn tokens(&self) -> Vec<&Token> {
        let mut tokens = Vec::new();
        self.collect(&mut tokens);
        tokens
    }

    fn collect<'n>(&'n self, into: &mut Vec<&'n Token>) {
        for child in &self.children {
            match child {
                Element::Node(node) => node.collect(into),
                Element::Token(token) => into.push(token),
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    source: Arc<str>,
    pub root: Node,
}

impl Tree {
    pub(crate) fn new(source: Arc<str>, root: Node) -> Self {
        Self { source, root }
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// The source put together again from the leaves; equal to what was parsed.
    pub fn text(&self) -> String {
        self.root.tokens().into_iter().map(|token| self.slice(&token.range)).collect()
    }

    /// The source of a range; empty when the range is not of this tree.
    pub fn slice(&self, range: &Range<usize>) -> &str {
        self.source.get(range.clone()).unwrap_or("")
    }
}
