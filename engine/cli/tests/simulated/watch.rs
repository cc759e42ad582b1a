//! The live table on a real terminal: a pseudo-terminal of `script`, 100 columns wide.

use crate::shop::{BINARY, Shop};
use muster_demo::estate::AWAY;
use std::io::Write;
use std::process::{Child, ChildStdin, Stdio};

const ROWS: usize = 30;
const COLUMNS: usize = 100;

/// Keys typed at a table, and everything that came to the terminal.
struct Terminal {
    child: Child,
    keys: Option<ChildStdin>,
    log: tempfile::NamedTempFile,
}

impl Terminal {
    fn new(shop: &Shop, words: &str) -> Self {
        let log = tempfile::NamedTempFile::new_in(shop.folder.path()).unwrap();
        let typed = format!("stty rows {ROWS} cols {COLUMNS} && exec '{BINARY}' {words}");
        // The environment of the shop's person, for another program.
        let person = shop.command(&[]);
        let mut command = std::process::Command::new("script");
        command.args(["-qefc", &typed, "/dev/null"]);
        for (name, value) in person.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        command.stdin(Stdio::piped()).stdout(log.reopen().unwrap()).stderr(Stdio::null());
        let mut child = command.spawn().expect("`script` of util-linux is there");
        let keys = child.stdin.take();
        Self { child, keys, log }
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log.path()).unwrap_or_default()).into_owned()
    }

    /// What stands on the terminal now: only changed cells are sent, so that words come in pieces.
    fn screen(&self) -> String {
        let mut cells = vec![vec![' '; COLUMNS]; ROWS];
        let (mut row, mut column) = (0_usize, 0_usize);
        let seen = self.seen();
        let mut rest = seen.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '\u{1b}' if rest.next_if_eq(&'[').is_some() => {
                    let mut numbers = String::new();
                    while let Some(digit) = rest.next_if(|c| !c.is_ascii_alphabetic()) {
                        numbers.push(digit);
                    }
                    let number = |at: usize| numbers.split(';').nth(at).and_then(|text| text.parse().ok()).unwrap_or(1);
                    match rest.next() {
                        Some('H') => (row, column) = (number(0) - 1, number(1) - 1),
                        Some('J') => cells.iter_mut().for_each(|line| line.fill(' ')),
                        _ => {}
                    }
                }
                '\r' => column = 0,
                '\n' => row += 1,
                c if !c.is_control() => {
                    if let Some(cell) = cells.get_mut(row).and_then(|line| line.get_mut(column)) {
                        *cell = c;
                    }
                    column += 1;
                }
                _ => {}
            }
        }
        cells.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned() + "\n").collect()
    }

    fn press(&mut self, keys: &str) {
        let pipe = self.keys.as_mut().unwrap();
        pipe.write_all(keys.as_bytes()).unwrap();
        pipe.flush().unwrap();
    }

    fn ended(&mut self, shop: &Shop) -> Option<i32> {
        let mut code = None;
        shop.wait_until("the table is gone", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        code.and_then(|status| status.code())
    }

    /// It took the terminal and gave it back, and the last word is data.
    fn assert_given_back(&self) {
        let seen = self.seen();
        assert!(seen.contains("\u{1b}[?1049h"), "no table: {seen}");
        assert!(seen.rfind("\u{1b}[?1049l") > seen.rfind("\u{1b}[?1049h"), "not given back: {seen}");
        assert!(seen.contains("\u{1b}[?25h"), "no cursor: {seen}");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_move_is_watched_answered_by_keys_and_ends_cleanly() {
    let shop = Shop::protected();
    let mut table = Terminal::new(&shop, "failover shop --planned --watch");
    shop.wait_until("the table asks", || table.screen().contains("waits for people"));
    // A picture comes in pieces: all of it is there at some time.
    for part in ["shop · planned", " steps ", "asks anyone", "y yes", "rto 15m00s"] {
        shop.wait_until(part, || table.screen().contains(part));
    }
    // No is meant, a finger slips, nothing happens; then yes.
    table.press("n");
    shop.wait_until("it asks back", || table.screen().contains("answer NO"));
    table.press("x");
    table.press("y");
    shop.wait_until("it asks back", || table.screen().contains("answer YES"));
    table.press("\r");
    assert_eq!(table.ended(&shop), Some(0), "{}", table.seen());
    table.assert_given_back();
    assert!(table.seen().contains("done, "), "{}", table.seen());
    let run = shop.run_id();
    assert!(shop.questions(&run).is_empty());
    let log = shop.json(&["log", &run]);
    let answers: Vec<_> =
        log["records"].as_array().unwrap().iter().filter(|record| record["event"] == "answered").collect();
    assert!(answers.iter().all(|record| record["answer"]["yes"] == true && record["answer"]["who"] == "tester"));
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[test]
fn leaving_the_table_or_being_killed_at_it_stops_nothing() {
    let shop = Shop::protected();
    let mut table = Terminal::new(&shop, "failover shop --planned --watch");
    shop.wait_until("the table asks", || table.screen().contains("waits for people"));
    // Another terminal looks at the same run, and leaves.
    let mut other = Terminal::new(&shop, "watch");
    shop.wait_until("the other one sees it", || other.screen().contains("waits for people"));
    other.press("q");
    assert_eq!(other.ended(&shop), Some(0), "{}", other.seen());
    other.assert_given_back();
    // The first one leaves the table; the run goes on as lines, and the answer comes from elsewhere.
    table.press("q");
    shop.wait_until("the table is left", || table.seen().contains("line by line"));
    let run = shop.run_id();
    for step in shop.questions(&run) {
        shop.type_in(&["approve", &run, &step]).ends(0);
    }
    assert_eq!(table.ended(&shop), Some(0), "{}", table.seen());
    table.assert_given_back();
    shop.assert_runs_at(AWAY);
}

#[test]
fn ctrl_c_gives_the_terminal_back_and_resume_goes_on() {
    let shop = Shop::protected();
    let mut table = Terminal::new(&shop, "failover shop --planned --watch");
    shop.wait_until("the table asks", || table.screen().contains("waits for people"));
    table.press("\u{3}");
    assert_eq!(table.ended(&shop), Some(130), "{}", table.seen());
    table.assert_given_back();
    assert!(table.seen().contains("muster resume"), "{}", table.seen());
    let stopped = shop.type_in(&["resume", "--no-wait"]).ends(4);
    shop.finish(stopped).ends(0);
}

#[test]
fn without_a_terminal_there_are_lines() {
    let shop = Shop::protected();
    let piped = shop.type_in(&["failover", "shop", "--planned", "--watch", "--no-wait"]).ends(4);
    assert!(!piped.err.contains('\u{1b}') && piped.err.contains("asks anyone"), "{piped:#?}");
    shop.finish(piped).ends(0);
    shop.type_in(&["watch"]).ends(1).says(&["needs a terminal"]);
}
