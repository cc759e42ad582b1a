//! Why a line could not be read, in the user's words.
//!
//! The grammar only says that no shape fits. What is said instead comes from the first word of the line and from how far the
//! line could be read.

use crate::grammar::{Rule, readable_length};
use crate::repair::{Repair, repair};
use muster_diagnostics::{Applicability, Diagnostic, Span, nearest};

/// Where a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    File,
    Facts,
    Site,
    Route,
    Plan,
    Body,
    Test,
}

const ITEMS: [&str; 18] = [
    "edition", "use", "let", "secret", "site", "route", "place", "machine", "window", "team", "policy", "group",
    "hook", "probe", "template", "plan", "test", "network",
];
pub(crate) const VERBS: [&str; 10] =
    ["start", "stop", "create", "check", "run", "apply", "approve", "manual", "wait", "notify"];
/// Verbs that only the compiler writes.
const DERIVED: [&str; 14] = [
    "verify",
    "lock",
    "sync-final",
    "pick-point",
    "fence",
    "promote",
    "clone",
    "bubble",
    "attach",
    "readdress",
    "reverse",
    "resync",
    "discard",
    "unlock",
];
const BODY_BLOCKS: [&str; 4] = ["when", "down", "parallel", "require"];
const FACTS: [&str; 18] = [
    "rpo",
    "replicate",
    "snapshot",
    "retain",
    "bandwidth",
    "change-log",
    "policy",
    "machines",
    "together",
    "file",
    "needs",
    "undo",
    "body",
    "members",
    "quorum",
    "disks",
    "network",
    "ip",
];
const PLAN_FACTS: [&str; 7] = ["stage", "move", "rto", "rpo", "owner", "keep", "point"];
const TEST_WORDS: [&str; 4] = ["compile", "simulate", "given", "expect"];

impl Place {
    fn belongs(self) -> &'static str {
        match self {
            Place::File => "an item",
            Place::Facts => "a fact",
            Place::Site => "a fact or a network",
            Place::Route => "a fact or a pair",
            Place::Plan => "a fact or a stage",
            Place::Body => "a step",
            Place::Test => "a line of a test",
        }
    }

    pub(crate) fn words(self) -> Vec<&'static str> {
        match self {
            Place::File => ITEMS.iter().copied().filter(|word| *word != "network").collect(),
            Place::Facts => FACTS.to_vec(),
            Place::Site => vec!["network", "provider"],
            Place::Route => vec!["vault", "through", "target", "resolver"],
            Place::Plan => PLAN_FACTS.to_vec(),
            Place::Body => VERBS.iter().chain(&BODY_BLOCKS).copied().collect(),
            Place::Test => TEST_WORDS.to_vec(),
        }
    }

    /// The rule that reads one line of this place alone.
    pub(crate) fn rule_of_one(self) -> &'static Rule {
        match self {
            Place::File => &Rule::one_top,
            Place::Facts => &Rule::one_fact,
            Place::Site => &Rule::one_site,
            Place::Route => &Rule::one_route,
            Place::Plan => &Rule::one_plan,
            Place::Body => &Rule::one_body,
            Place::Test => &Rule::one_test,
        }
    }
}

/// How a line that begins with this word is written.
fn form(word: &str) -> Option<&'static str> {
    Some(match word {
        "edition" => "edition 2026",
        "use" => "use ./sites { hq, dr }",
        "let" => "let hold = 10m",
        "secret" => "secret vc-hq = keyring(\"dr/vcenter-hq\")",
        "site" => "site hq { ... }",
        "route" => "route hq <-> dr { ... }",
        "place" => "place sql-01 at dr { ... }",
        "machine" => "machine app-01 at hq { ... }",
        "window" => "window office = mon-fri 08:00-18:00 Europe/Amsterdam",
        "team" => "team dr-leads { ... }",
        "policy" => "policy silver like gold { ... }",
        "group" => "group orders-db { ... }",
        "hook" => "hook dns-swing(zone: text, to: ip) { ... }",
        "probe" => "probe buys-socks(base: text) { ... }",
        "template" => "template cluster(nodes: list(machine)) { ... }",
        "plan" => "plan shop { ... }",
        "test" => "test \"a title\" { ... }",
        "network" => "network data = 10.10.20.0/24 as \"PG-DATA-20\"",
        "resolver" => "resolver 10.10.0.53 <-> 10.60.0.53",
        "stage" => "stage web after app, cache { ... }",
        "move" => "move = hq -> dr",
        "start" => "start sql-01, sql-02 in turn within 8m",
        "stop" => "stop sql-01 within 10m",
        "create" => "create redis-01 from \"redis-golden\" within 4m",
        "check" => "check app-01 http(\":8080/ready\") within 4m retry 3 every 20s",
        "run" => "run set-db-host(host = 10.10.20.50) within 2m",
        "apply" => "apply cluster(nodes = orders-db.machines)",
        "approve" => "approve \"Send customers to {target}?\" by dr-leads within 15m",
        "manual" => "manual \"move the uplink cable\" by netops within 20m",
        "wait" => "wait 10m",
        "notify" => "notify dr-leads \"shop now runs at {target}\"",
        "when" => "when test { ... }",
        "down" => "down { ... }",
        "parallel" => "parallel { ... }",
        "require" => "require len(nodes) >= 1 \"a cluster needs a node\"",
        "compile" => "compile shop test",
        "simulate" => "simulate shop unplanned seed 7",
        "given" => "given hq unreachable",
        "expect" => "expect db before app",
        _ => return None,
    })
}

/// The message for a line that fits no shape. `text` is the line, `span` its place. With `search`, the edit that would
/// make it readable is looked for.
pub(crate) fn junk(span: Span, text: &str, place: Place, search: bool) -> Diagnostic {
    let diagnostic = reason(span, text, place);
    // A derived step is not mended, and a word that belongs elsewhere is not made another one.
    if !search || matches!(diagnostic.code.0, 107 | 605) {
        return diagnostic;
    }
    let from = readable_length(*place.rule_of_one(), text);
    match repair(place, text, from) {
        Some(found) => mended(diagnostic, span, text, &found),
        None => diagnostic,
    }
}

/// The message with the edit that makes its line readable.
fn mended(diagnostic: Diagnostic, line: Span, text: &str, found: &Repair) -> Diagnostic {
    let at = |offset: usize| line.start + u32::try_from(offset).unwrap_or(0);
    let span = Span { start: at(found.at.start), end: at(found.at.end), ..line };
    let applicability = if found.certain { Applicability::Certain } else { Applicability::Maybe };
    let words = found.words(text);
    let help = match diagnostic.help.as_deref().and_then(|help| help.strip_prefix("it is written ")) {
        Some(form) if !words.starts_with("did you mean") && !words.contains(';') => {
            format!("{words}: it is written {form}")
        }
        None => match diagnostic.help.as_deref().filter(|help| help.starts_with("names are")) {
            Some(rule) => format!("{words} {rule}"),
            None => words,
        },
        _ => words,
    };
    diagnostic.help(help).fix(span, found.replacement.clone(), applicability)
}

fn reason(span: Span, text: &str, place: Place) -> Diagnostic {
    let word_length = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).unwrap_or(text.len());
    let word = text.get(..word_length).unwrap_or("");
    let word_span = Span { end: span.start + word_length as u32, ..span };
    if !word.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return not_a_word(span, text, place);
    }
    let rest = text.get(word_length..).unwrap_or("").trim_start();
    let is_fact = rest.starts_with('=') && !rest.starts_with("==") || rest.is_empty() && place == Place::Facts;
    let known = place.words().contains(&word);
    if is_fact && (form(word).is_none() || !is_item_fact(word, place)) {
        return if place == Place::Body || place == Place::File || place == Place::Test {
            misplaced_fact(word_span, word, place)
        } else {
            unreadable(span, text, word, place, true)
        };
    }
    if VERBS.contains(&word) && place != Place::Body {
        return Diagnostic::error(
            107,
            format!("`{word}` is a step, and steps stand in a stage"),
            word_span,
            "a step outside a stage",
        )
        .help("write it inside `stage NAME { ... }` of a plan");
    }
    if DERIVED.contains(&word) && matches!(place, Place::Body | Place::Plan) {
        return Diagnostic::error(
            605,
            format!("`{word}` is written by the compiler, not by hand"),
            word_span,
            "a derived step",
        )
        .note(
            "the order of the dangerous steps follows from the operation; `muster dry-run` shows where this one stands",
        )
        .help("delete this line; write your own steps before or after `start`");
    }
    if known {
        return unreadable(span, text, word, place, is_fact);
    }
    unknown_word(word_span, word, place)
}

/// `let = 5m` at the top of a file is a broken item; `policy = Gold` in a group is a fact.
fn is_item_fact(word: &str, place: Place) -> bool {
    place == Place::File && ITEMS.contains(&word) || word == "move" || place == Place::Site && word == "network"
}

fn unknown_word(span: Span, word: &str, place: Place) -> Diagnostic {
    let diagnostic = Diagnostic::error(
        101,
        format!("unknown word `{word}` where {} belongs", place.belongs()),
        span,
        "not known here",
    );
    let home = match word {
        "stage" | "move" => Some("it belongs in a `plan`"),
        "network" => Some("it belongs in a `site`"),
        "when" | "down" | "parallel" | "require" => Some("it belongs in a `stage`"),
        "compile" | "simulate" | "given" | "expect" => Some("it belongs in a `test`"),
        _ if ITEMS.contains(&word) => Some("it belongs at the top of the file, outside every block"),
        _ => None,
    };
    if let Some(home) = home {
        return diagnostic.help(format!("`{word}` cannot stand here; {home}"));
    }
    if let Some(candidate) = nearest(&word.to_ascii_lowercase(), place.words()).or_else(|| {
        let lower = word.to_ascii_lowercase();
        place.words().into_iter().find(|candidate| *candidate == lower && lower != word)
    }) {
        return diagnostic.help(format!("did you mean `{candidate}`?")).fix(span, candidate, Applicability::Maybe);
    }
    if place == Place::Facts {
        return diagnostic.help("a fact is written `name = value`");
    }
    let words: Vec<_> = place.words().iter().map(|word| format!("`{word}`")).collect();
    diagnostic.help(format!("a line here begins with {}", words.join(", ")))
}

fn not_a_word(span: Span, text: &str, place: Place) -> Diagnostic {
    let first = text.chars().next().unwrap_or(' ');
    let span = Span { end: span.start + first.len_utf8() as u32, ..span };
    let shown = if first.is_control() || first.is_whitespace() {
        format!("U+{:04X}", u32::from(first))
    } else {
        first.to_string()
    };
    let diagnostic =
        Diagnostic::error(101, format!("`{shown}` where {} belongs", place.belongs()), span, "no line begins so");
    match first {
        '\u{a0}' => diagnostic.help("this is a no-break space; type a plain one"),
        '/' => diagnostic.help("a comment begins with `#`"),
        _ => diagnostic.help("delete it, or write the line that was meant"),
    }
}

fn misplaced_fact(span: Span, word: &str, place: Place) -> Diagnostic {
    let home = match place {
        Place::Body => "write it in the plan, outside its stages",
        Place::Test => "a test only has `compile`, `simulate`, `given` and `expect`",
        _ => "write it inside a block, or begin the line with `let` to name a value",
    };
    Diagnostic::error(
        101,
        format!("the fact `{word}` where {} belongs", place.belongs()),
        span,
        "a fact cannot stand here",
    )
    .help(home)
}

/// A line that begins well: says from where on it is not understood.
fn unreadable(span: Span, text: &str, word: &str, place: Place, is_fact: bool) -> Diagnostic {
    let mut from = readable_length(*place.rule_of_one(), text).clamp(word.len().min(text.len()), text.len());
    while !text.is_char_boundary(from) {
        from -= 1;
    }
    let remaining = text.get(from..).unwrap_or("");
    from += remaining.len() - remaining.trim_start().len();
    let remaining = remaining.trim_start();
    // Names have their own rule, whatever the line is.
    let is_no_name = remaining.starts_with(|c: char| c.is_ascii_uppercase() || !c.is_ascii());
    let written = match form(word).filter(|_| !is_fact || is_item_fact(word, place)) {
        _ if is_no_name => "names are written with small letters, digits, `-` and `_`".to_owned(),
        Some(form) => format!("it is written `{form}`"),
        None => {
            "a value is written `5m`, `40GiB`, `10.0.0.5`, `\"text\"`, `[a, b]` or as a name in lower case".to_owned()
        }
    };
    if remaining.is_empty() {
        let end = span.start + text.len() as u32;
        let place = Span { start: end.saturating_sub(1).max(span.start), end, ..span };
        return Diagnostic::error(
            109,
            format!("this `{word}` line is not finished"),
            place,
            "something is missing after this",
        )
        .help(written);
    }
    let stop = |c: char| c.is_whitespace() || ",(){}[]=".contains(c);
    let length = remaining
        .find(stop)
        .filter(|length| *length > 0)
        .unwrap_or_else(|| remaining.chars().next().filter(|c| stop(*c)).map_or(remaining.len(), char::len_utf8));
    let start = span.start + from as u32;
    let place = Span { start, end: start + length as u32, ..span };
    let shown: String = remaining.get(..length).unwrap_or("").chars().take(40).filter(|c| !c.is_control()).collect();
    Diagnostic::error(109, format!("this `{word}` line cannot be read from `{shown}` on"), place, "not understood here")
        .help(written)
}
