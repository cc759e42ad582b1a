//! The timeline as an inline drawing: one row for each step, its real time over its estimate. No script, no other file.

use crate::report::{Fate, Report, Step};
use crate::words::{clock, html};
use std::fmt::Write;

/// Steps that are drawn; the table below the drawing has all of them.
const ROWS_MAX: usize = 200;
/// Pixels of the drawing; it scales with the page.
const WIDTH: u64 = 960;
const LABELS: u64 = 230;
const ROW: u64 = 16;
const HEAD: u64 = 24;
/// The narrowest bar that can be seen.
const BAR_MIN: u64 = 2;
/// Lines of time across the drawing.
const TICKS: u64 = 6;
/// Characters of a label.
const LABEL_MAX: usize = 34;

/// Milliseconds that one line of time stands for: round for people.
const ROUND: [u64; 14] = [
    1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000, 7_200_000,
    21_600_000, 86_400_000,
];

struct Scale {
    whole: u64,
}

impl Scale {
    fn x(&self, at: u64) -> u64 {
        let wide = u128::from(WIDTH - LABELS - 20);
        LABELS + u64::try_from(u128::from(at.min(self.whole)) * wide / u128::from(self.whole)).unwrap_or(0)
    }
    fn width(&self, from: u64, took: u64) -> u64 {
        (self.x(from.saturating_add(took)) - self.x(from)).max(BAR_MIN)
    }
}

/// The drawing, and a sentence about what is not in it.
pub(crate) fn timeline(report: &Report) -> String {
    let begun: Vec<&Step> = report.steps.iter().filter(|step| step.began_millis.is_some()).collect();
    let drawn = &begun[..begun.len().min(ROWS_MAX)];
    let end = |step: &&Step| {
        let real = step.began_millis.unwrap_or(0).saturating_add(step.took_millis.unwrap_or(0));
        let told = step.estimate_began_millis.unwrap_or(0).saturating_add(step.estimate_millis.unwrap_or(0));
        real.max(told)
    };
    let scale = Scale { whole: drawn.iter().map(end).max().unwrap_or(0).max(1_000) };
    let height = HEAD + ROW * drawn.len() as u64 + 8;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"timeline\" \
         font-family=\"monospace\" font-size=\"10\">"
    );
    ticks(&mut out, &scale, height);
    for (row, step) in (0_u64..).zip(drawn) {
        bar(&mut out, &scale, HEAD + row * ROW, step);
    }
    out.push_str("</svg>\n");
    if begun.len() > drawn.len() {
        let _ = writeln!(out, "<p>{} of {} steps are drawn.</p>", drawn.len(), begun.len());
    }
    out
}

fn ticks(out: &mut String, scale: &Scale, height: u64) {
    let every = ROUND.into_iter().find(|every| scale.whole / every <= TICKS).unwrap_or(scale.whole / TICKS);
    for at in (0..=scale.whole / every.max(1)).map(|tick| tick * every) {
        let x = scale.x(at);
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"{HEAD}\" x2=\"{x}\" y2=\"{height}\" stroke=\"#d8dee4\"/>\
             <text x=\"{x}\" y=\"14\" text-anchor=\"middle\" fill=\"#52606d\">{}</text>",
            clock(at)
        );
    }
}

fn bar(out: &mut String, scale: &Scale, y: u64, step: &Step) {
    let label: String = match step.id.as_str().char_indices().nth(LABEL_MAX) {
        Some((cut, _)) => format!("{}…", &step.id.as_str()[..cut]),
        None => step.id.to_string(),
    };
    let _ = write!(out, "<g><title>{}</title>", html(&format!("{}: {}", step.id, step.what)));
    let _ = write!(out, "<text x=\"4\" y=\"{}\">{}</text>", y + 11, html(&label));
    if let (Some(began), Some(took)) = (step.estimate_began_millis, step.estimate_millis) {
        let _ = write!(
            out,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"12\" fill=\"none\" stroke=\"#9aa5b1\"/>",
            scale.x(began),
            y + 1,
            scale.width(began, took)
        );
    }
    let color = match step.fate {
        Fate::Done | Fate::FoundDone => "#2f6db3",
        Fate::ByHand => "#6b4fa0",
        Fate::Running | Fate::Waiting => "#b7791f",
        Fate::Degraded | Fate::Skipped | Fate::NotUndone => "#c0392b",
        Fate::Undone | Fate::NotBegun => "#7b8794",
    };
    if let Some(began) = step.began_millis {
        let took = step.took_millis.unwrap_or_else(|| scale.whole.saturating_sub(began));
        let _ = write!(
            out,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"8\" fill=\"{color}\"/>",
            scale.x(began),
            y + 3,
            scale.width(began, took)
        );
    }
    out.push_str("</g>\n");
}
