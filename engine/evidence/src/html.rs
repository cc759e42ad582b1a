//! The report as one page: readable on a screen, on paper, and in a browser that runs no script.

use crate::picture;
use crate::report::*;
use crate::words::{clock, html, moment, span};
use std::fmt::Write;

const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;color:#1f2933;max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem;border-bottom:1px solid #cbd2d9}
table{border-collapse:collapse;width:100%;font-size:.85rem}th,td{text-align:left;vertical-align:top;padding:.2rem .5rem;\
border-bottom:1px solid #e4e7eb}td.n,th.n{text-align:right;white-space:nowrap}
.big{display:flex;flex-wrap:wrap;gap:1rem;margin:1rem 0}.big div{border:1px solid #cbd2d9;border-radius:4px;padding:.5rem 1rem}
.big b{display:block;font-size:1.3rem}.bad{color:#c0392b}.mono{font-family:monospace;word-break:break-all}
svg{width:100%;height:auto}
@media print{body{margin:0;max-width:none;font-size:11px}h2{break-after:avoid}tr,svg g{break-inside:avoid}}
";

/// A document without scripts and without anything from elsewhere.
pub(crate) fn page(report: &Report) -> String {
    let title = html(&format!("{} · {} · run {}", report.plan, report.operation, report.run));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <style>\n{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    head(&mut out, report);
    let _ = writeln!(out, "<h2>Timeline</h2>\n<p>Filled: what happened. Outlined: what the runsheet let expect.</p>");
    out.push_str(&picture::timeline(report));
    losses(&mut out, report);
    words(&mut out, report);
    exceptions(&mut out, report);
    steps(&mut out, report);
    calls(&mut out, report);
    journal(&mut out, report);
    out.push_str("</body></html>\n");
    out
}

fn head(out: &mut String, report: &Report) {
    let ended = report.closed.map_or_else(|| "not ended".to_owned(), moment);
    let degraded = if report.degraded { ", degraded" } else { "" };
    let why = if report.why.is_empty() { String::new() } else { format!(": {}", report.why) };
    let _ = writeln!(
        out,
        "<p>{} → {} · asked for by {} · {} to {}</p>",
        html(&report.source),
        html(&report.target),
        html(&format!("{}{why}", report.who)),
        moment(report.opened),
        ended
    );
    out.push_str("<div class=\"big\">\n");
    tile(out, "ended", &format!("{}{degraded}", report.status), report.status != "done" || report.degraded);
    for (name, text, bad) in crate::markdown::figures(report) {
        tile(out, name, &text, bad);
    }
    let _ = writeln!(
        out,
        "</div>\n<p>The clock began at {} with {}.{}</p>",
        moment(report.clock.from),
        html(&report.clock.began_with),
        report.clock.not_shown.as_ref().map_or_else(String::new, |step| {
            format!(" <span class=\"bad\">That the application is healthy was not shown: {}.</span>", html(step))
        })
    );
}

fn tile(out: &mut String, name: &str, text: &str, bad: bool) {
    let class = if bad { " class=\"bad\"" } else { "" };
    let _ = writeln!(out, "<div>{}<b{class}>{}</b></div>", html(name), html(text));
}

/// A table; nothing at all without rows.
fn table(out: &mut String, title: &str, head: &[&str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "<h2>{}</h2>\n<table><thead><tr>", html(title));
    for cell in head {
        let _ = write!(out, "<th>{}</th>", html(cell));
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            let _ = write!(out, "<td>{}</td>", html(&cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table>\n");
}

fn losses(out: &mut String, report: &Report) {
    table(out, "Loss and recovery points", &crate::markdown::LOSS_HEAD, crate::markdown::loss_rows(report));
}

fn words(out: &mut String, report: &Report) {
    table(out, "Decisions and signatures", &crate::markdown::WORD_HEAD, crate::markdown::word_rows(report));
}

fn exceptions(out: &mut String, report: &Report) {
    table(out, "Not by the runsheet", &crate::markdown::EXCEPTION_HEAD, crate::markdown::exception_rows(report));
}

fn steps(out: &mut String, report: &Report) {
    out.push_str("<h2>Steps</h2>\n<table><thead><tr><th class=\"n\">began</th><th class=\"n\">took</th>");
    out.push_str(
        "<th class=\"n\">estimate</th><th>step</th><th>what</th><th>how</th><th>note</th></tr></thead><tbody>\n",
    );
    for step in &report.steps {
        let number = |value: Option<u64>, words: fn(u64) -> String| value.map_or_else(|| "–".to_owned(), words);
        let assumed = if step.estimate_from == "assumed" { "~" } else { "" };
        let tries = if step.attempts > 1 { format!(", {} attempts", step.attempts) } else { String::new() };
        let class = if step.fate.is_well() { "" } else { " class=\"bad\"" };
        let _ = writeln!(
            out,
            "<tr><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{assumed}{}</td><td>{}</td><td>{}</td>\
             <td{class}>{}{tries}</td><td>{}</td></tr>",
            number(step.began_millis, clock),
            number(step.took_millis, span),
            number(step.estimate_millis, span),
            html(step.id.as_str()),
            html(&step.what),
            step.fate.word(),
            html(&step.note)
        );
    }
    out.push_str("</tbody></table>\n<p>~ assumed by the standard library; the others are the plan's own.</p>\n");
}

fn calls(out: &mut String, report: &Report) {
    table(out, "Calls of hooks", &crate::markdown::CALL_HEAD, crate::markdown::call_rows(report));
}

fn journal(out: &mut String, report: &Report) {
    let journal = &report.journal;
    let _ = writeln!(
        out,
        "<h2>Journal</h2>\n<p>{} records of {}; carried out by {}.</p>\n<p class=\"mono\">head {}<br>runsheet {}</p>",
        journal.records,
        html(&journal.format),
        html(&journal.engines.join(", then ")),
        html(&journal.head.0),
        html(&journal.sheet.0)
    );
}
