//! Formatting random plans: settled at once, no comment lost, and every operation compiles to the same sheet.

#![allow(clippy::unwrap_used, clippy::panic)] // tests

use muster_compiler::{Checked, CompileOptions, World, check};
use muster_editor::format;
use muster_runsheet::{Direction, Kind, Operation, Runsheet};
use proptest::prelude::*;
use std::fmt::Write;

struct One(String);

impl World for One {
    fn read(&self, path: &str) -> Option<String> {
        (path == "main.plan").then(|| self.0.clone())
    }
}

const KINDS: [Kind; 6] = [Kind::Test, Kind::Planned, Kind::Unplanned, Kind::Cancel, Kind::Commit, Kind::Reprotect];

fn checked(text: &str) -> Checked {
    check(&One(text.to_owned()), &["main.plan".to_owned()])
}

/// Every operation, without the places of the text it was made from.
fn sheets(checked: &Checked) -> Vec<Runsheet> {
    let mut all = Vec::new();
    for kind in KINDS {
        for direction in [Direction::Out, Direction::Back] {
            let mut sheet = checked.compile("p", Operation { kind, direction }, CompileOptions::default()).unwrap();
            for node in &mut sheet.nodes {
                if node.made_by.contains(".plan:") {
                    node.made_by = "a line".into();
                }
            }
            for hook in sheet.hooks.values_mut() {
                hook.origin = "a line".into();
            }
            all.push(sheet);
        }
    }
    all
}

fn comments(text: &str) -> Vec<String> {
    let mut all: Vec<String> =
        text.lines().filter_map(|line| Some(line.split_once("#~")?.1.trim().to_owned())).collect();
    all.sort();
    all
}

/// One random choice after the other.
#[derive(Clone, Debug)]
struct Choices(Vec<u8>, usize);

impl Choices {
    fn next(&mut self, below: usize) -> usize {
        self.1 += 1;
        usize::from(self.0[self.1 % self.0.len()]).wrapping_add(self.1 * 7) % below.max(1)
    }
    fn blank(&mut self) -> &'static str {
        [" ", "  ", "\t", "   "][self.next(4)]
    }
    /// The end of a line: blanks, a comment, empty lines.
    fn end(&mut self, text: &mut String) {
        match self.next(6) {
            0 => writeln!(text, " #~ remark {}", self.1).unwrap(),
            1 => writeln!(text, "  \n\n{}#~ alone {}", self.blank(), self.1).unwrap(),
            2 => text.push_str("\t\n"),
            3 => text.push_str("\r\n"),
            _ => text.push('\n'),
        }
    }
    fn line(&mut self, text: &mut String, words: &[&str]) {
        text.push_str(self.blank());
        for word in words {
            text.push_str(word);
            text.push_str(self.blank());
        }
        self.end(text);
    }
}

const CLAUSES: [&str; 6] = ["", "within 3m", "when live", "else continue", "when test, back", "usually 40s"];

fn step(choices: &mut Choices, text: &mut String, number: usize, machine: &str) {
    let clause = CLAUSES[choices.next(CLAUSES.len())];
    let label = format!("as step-{number}");
    match choices.next(6) {
        0 => choices.line(text, &["wait", "30s", &label, clause]),
        1 => choices
            .line(text, &["approve", "\"Go on to {target}? \\{x\\} # no comment\"", "by", "anyone", &label, clause]),
        2 => choices.line(text, &["check", machine, "tcp( 22 )", &label, clause]),
        3 => choices.line(text, &["manual", "\"turn  the key\"", "by", "leads", &label, clause]),
        4 => choices.line(text, &["run", "say(", "words", "=", "\"a  b\"", ",", "times=[1,2 ,3])", &label, clause]),
        _ => choices.line(text, &["notify", "leads", "\"{plan} at {target}\"", &label, clause]),
    }
}

fn block(choices: &mut Choices, text: &mut String, head: &str, number: usize, machine: &str) {
    choices.line(text, &[head, "{"]);
    for inner in 0..=choices.next(2) {
        step(choices, text, number * 10 + inner, machine);
    }
    choices.line(text, &["}"]);
}

fn plan(mut choices: Choices, stages: usize) -> String {
    let mut text = String::from("edition 2026\n");
    let c = &mut choices;
    for (site, net) in [("hq", 10), ("dr", 60)] {
        c.line(&mut text, &["site", site, "{"]);
        c.line(&mut text, &["provider", "=", &format!("simulated(\"127.0.0.1:73{net}\")")]);
        c.line(&mut text, &["network", "data", "=", &format!("10.{net}.20.0/24")]);
        c.line(&mut text, &["}"]);
    }
    text.push_str("route hq<->dr{vault=\"file:///vault\";data<->data test isolated}\n");
    text.push_str("team leads{members=[\"a@example.com\"  ,\"b@example.com\",]}\n");
    c.line(&mut text, &["policy", "gold", "{", "rpo=5m;replicate", "=", "every", "30s;", "retain=24h", "}"]);
    text.push_str("hook say(words:text,times:list(int)) {\n  body = \"\"\"\n      log.info(`${words} ${times.len()}`);\n\n      if times.len() > 2 {\n        log.info(\"# more\");\n      }\n  \"\"\"\n}\n");
    let names: Vec<String> = (0..stages).map(|number| format!("m-{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        c.line(&mut text, &["machine", name, "at", "hq", "{"]);
        c.line(&mut text, &["disks", "=", "[\"os\",", "disk(\"data\",", "10GiB)]"]);
        c.line(&mut text, &["network=data;", &format!("ip = 10.10.20.{}", number + 10)]);
        c.line(&mut text, &["}"]);
    }
    writeln!(text, "group all {{ policy=gold; machines=[{}] }}", names.join(" ,")).unwrap();
    c.line(&mut text, &["plan", "p", "{", "move", "=", "hq->dr"]);
    for (number, name) in names.iter().enumerate() {
        let after = if number > 0 && c.next(3) > 0 { format!("after s{}", c.next(number)) } else { String::new() };
        c.line(&mut text, &["stage", &format!("s{number}"), &after, "{"]);
        c.line(&mut text, &["start", name, "within", "5m"]);
        for inner in 0..=c.next(3) {
            step(c, &mut text, number * 100 + inner, name);
        }
        match c.next(4) {
            0 => block(c, &mut text, "parallel", number * 100 + 50, name),
            1 => block(c, &mut text, "when any", number * 100 + 60, name),
            _ => {}
        }
        c.line(&mut text, &["}"]);
    }
    text + "}"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_layout_says_nothing(choices in prop::collection::vec(any::<u8>(), 16..64), stages in 1usize..5) {
        let text = plan(Choices(choices, 0), stages);
        let before = checked(&text);
        let errors: Vec<&str> = before.diagnostics.iter().filter(|found| found.is_error()).map(|found| found.message.as_str()).collect();
        prop_assert!(errors.is_empty(), "{errors:?}\n{text}");
        let formatted = format(&text).unwrap();
        prop_assert_eq!(&format(&formatted).unwrap(), &formatted, "not settled:\n{}", text);
        prop_assert_eq!(comments(&formatted), comments(&text), "{}\n{}", text, formatted);
        prop_assert_eq!(sheets(&checked(&formatted)), sheets(&before), "{}\n{}", text, formatted);
    }
}
