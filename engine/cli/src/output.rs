//! stdout is data, stderr is everything else.

use crate::arguments::{ColorChoice, Common};
use anstream::stream::IsTerminal;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use muster_control::{Event, Level, words};
use muster_ports::Failure;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;

/// Prints data on stdout. A closed pipe (`muster log | head`) is no error.
pub fn data(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let text = text.as_ref();
    let _ = out.write_all(text.as_bytes());
    if !text.ends_with('\n') {
        let _ = out.write_all(b"\n");
    }
    let _ = out.flush();
}

/// Prints a value as JSON on stdout.
pub fn json(value: &impl serde::Serialize) {
    data(serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Says something to the person on stderr.
pub fn say(text: impl AsRef<str>) {
    let _ = writeln!(anstream::stderr(), "{}", text.as_ref());
}

/// `error:` and, where there is one, `hint:`.
pub fn failure(failure: &Failure) {
    say(format!("\x1b[1;31merror\x1b[0m: {}", failure.message));
    if let Some(help) = &failure.help {
        say(format!("\x1b[1;36mhint\x1b[0m: {help}"));
    }
}

/// Settles once whether stderr has colour; NO_COLOR and dumb terminals are honoured by `anstream`.
pub fn choose_color(choice: ColorChoice) {
    match choice {
        ColorChoice::Auto => {}
        ColorChoice::Always => anstream::ColorChoice::Always.write_global(),
        ColorChoice::Never => anstream::ColorChoice::Never.write_global(),
    }
}

pub fn color_on_stderr(common: &Common) -> bool {
    match common.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    }
}

/// The same for data: only on a terminal, unless it is asked for.
pub fn color_on_stdout(common: &Common) -> bool {
    match common.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    }
}

/// Shows the events of one request: bars for bytes on a terminal, lines for everything else.
#[derive(Debug)]
pub struct Watcher {
    bars: Option<MultiProgress>,
    open: Mutex<BTreeMap<String, ProgressBar>>,
    verbose: bool,
}

impl Watcher {
    pub fn new(common: &Common) -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self { bars, open: Mutex::new(BTreeMap::new()), verbose: common.verbose > 0 }
    }

    pub fn tell(&self, event: Event) {
        match event {
            Event::Progress { what, done, total } => self.progress(what, done, total),
            Event::Note { text } => self.line(&text),
            Event::Run { record, .. } => {
                let (level, step, text) = words::line(&record);
                if level == Level::Detail && !self.verbose {
                    return;
                }
                let (before, after) = match level {
                    Level::Detail => ("\x1b[2m", "\x1b[0m"),
                    Level::Info => ("", ""),
                    Level::Warning => ("\x1b[33m", "\x1b[0m"),
                    Level::Question => ("\x1b[1;36m", "\x1b[0m"),
                };
                let step = step.map(ToString::to_string).unwrap_or_default();
                self.line(&format!("{}  {before}{step:<34}  {text}{after}", clock_time(record.time.0)));
            }
            Event::Taken | Event::Done { .. } | Event::Failed { .. } => {}
        }
    }

    fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| say(text)),
            None => say(text),
        }
    }

    fn progress(&self, what: String, done: u64, total: Option<u64>) {
        let Some(bars) = &self.bars else { return };
        let Ok(mut open) = self.open.lock() else { return };
        let bar = open.entry(what.clone()).or_insert_with(|| {
            let style = ProgressStyle::with_template(
                "  {msg:<24} {bar:24} {bytes:>10} / {total_bytes:<10} {bytes_per_sec:>12}  {eta}",
            );
            let bar = bars.add(ProgressBar::new(total.unwrap_or(0)).with_message(what.clone()));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
        if total.is_some_and(|total| done >= total) {
            bar.finish_and_clear();
            open.remove(&what);
        }
    }
}

/// `03:12:45` of a moment, in UTC so that all sites' logs line up.
pub fn clock_time(millis: u64) -> String {
    let seconds = millis / 1000;
    format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// `2026-11-22T03:12:45Z`.
pub fn date_time(millis: u64) -> String {
    i64::try_from(millis)
        .ok()
        .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
        .map_or_else(|| millis.to_string(), |moment| format!("{moment:.0}"))
}

/// Columns padded to their widest cell, two blanks between; the last one is not padded.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (index, cell) in cells.enumerate() {
            if index > 0 {
                text.push_str("  ");
            }
            text.push_str(cell);
            let width = widths.get(index).copied().unwrap_or(0);
            text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
        }
        text.trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// `1.5 MiB`, for people; JSON has the bytes.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `4s`, `3m20s`, `2h05m`.
pub fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}
