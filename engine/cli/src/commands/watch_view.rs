//! The live table, drawn: a pure function of the state, the time and the size. What only a person can move stands first.

use super::watch_state::{Prompt, Row, Stand, State};
use crate::output;
use muster_evidence::clock;
use muster_ports::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget};

/// Columns of a step's name; a longer one ends in dots.
const NAME: usize = 30;
/// Of the times on the right.
const TIMES: usize = 20;
/// Lines of what comes next, and of what was done last, when there is room for more.
const NEXT_MIN: usize = 3;
const DONE_MIN: usize = 3;

const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const ASKS: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const GOOD: Style = Style::new().fg(Color::Green);

/// Draws the table as it stands now.
pub fn render(state: &State, now: Timestamp, area: Rect, buffer: &mut Buffer) {
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let mut lines = head(state, now);
    let foot = foot(state);
    let room = height.saturating_sub(lines.len() + foot.len());
    lines.extend(body(state, now, width, room));
    lines.resize(height.saturating_sub(foot.len()).max(lines.len().min(height)), Line::default());
    lines.truncate(height.saturating_sub(foot.len()));
    lines.extend(foot);
    Paragraph::new(lines).render(area, buffer);
}

fn head(state: &State, now: Timestamp) -> Vec<Line<'static>> {
    let now = state.closed.map_or(now, |(_, at)| at);
    let (done, all) = state.done();
    let elapsed = clock(now.0.saturating_sub(state.opened.0));
    let about = state.estimate.map_or_else(String::new, |whole| format!(" of about {}", clock(whole)));
    let first = Line::from(vec![
        Span::styled(state.title.clone(), BOLD),
        Span::raw(format!("   {}   run {}", state.way, state.run)),
    ]);
    let mut second = vec![Span::raw(format!("{done} of {all} steps   {elapsed}{about}"))];
    if let Some(rto) = state.rto() {
        let promise = output::duration(rto);
        second.push(match state.left(now) {
            None => Span::styled(format!("   rto {promise}: its clock has not begun"), DIM),
            Some(left) if left < 0 => {
                let over = clock(left.unsigned_abs());
                Span::styled(format!("   rto {promise}: MISSED by {over}"), BAD)
            }
            Some(left) => Span::styled(format!("   rto {promise}: {} left", clock(left.unsigned_abs())), GOOD),
        });
    }
    let mut lines = vec![first, Line::from(second)];
    if let Some(by) = &state.paused {
        lines.push(Line::styled(format!("PAUSED by {by}"), ASKS));
    }
    if let Some(why) = &state.undo {
        lines.push(Line::styled(format!("everything is taken back: {why}"), BAD));
    }
    lines.push(Line::default());
    lines
}

fn foot(state: &State) -> Vec<Line<'static>> {
    let first = match &state.prompt {
        Some(Prompt::Answer { step, yes }) => {
            let word = if *yes { "YES" } else { "NO" };
            Line::styled(format!("answer {word} to {step}?   Enter does it, Esc does not"), ASKS)
        }
        Some(Prompt::Pause) => Line::styled("begin no further step?   Enter does it, Esc does not", ASKS),
        Some(Prompt::Resume) => Line::styled("let the run go on?   Enter does it, Esc does not", ASKS),
        None => Line::raw(state.message.clone()),
    };
    let keys = match (&state.closed, state.questions().count()) {
        (Some(_), _) => "q leave".to_owned(),
        (None, 0) => format!("{}   q leave the table, the run goes on", pause_key(state)),
        (None, 1) => format!("y yes   n no   {}   q leave the table, the run goes on", pause_key(state)),
        (None, _) => {
            format!("y yes   n no   tab another question   {}   q leave the table, the run goes on", pause_key(state))
        }
    };
    vec![first, Line::styled(keys, DIM)]
}

fn pause_key(state: &State) -> &'static str {
    if state.paused.is_some() { "p go on" } else { "p pause" }
}

/// The sections, each cut to its room: people first, then what runs, then what failed, was done and comes.
fn body(state: &State, now: Timestamp, width: usize, room: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let asking: Vec<&Row> = state.questions().collect();
    section(
        &mut lines,
        "waits for people",
        asking
            .iter()
            .enumerate()
            .flat_map(|(place, row)| question(row, now, width, place == state.chosen && asking.len() > 1)),
    );
    let of = |stand: Stand| state.rows.iter().filter(move |row| row.stand == stand);
    section(&mut lines, "failed, a person decides", of(Stand::Stopped).flat_map(|row| stopped(state, row, width)));
    section(&mut lines, "runs", of(Stand::Running).map(|row| running(row, now, width)));
    section(&mut lines, "goes on without", of(Stand::Without).map(|row| ended(row, width, BAD)));
    let left = room.saturating_sub(lines.len());
    let next: Vec<&Row> = of(Stand::Next).collect();
    let mut done: Vec<&Row> =
        state.rows.iter().filter(|row| matches!(row.stand, Stand::Done | Stand::TakenBack)).collect();
    done.sort_by_key(|row| std::cmp::Reverse(row.ended));
    // A heading and a blank line each.
    let space = left.saturating_sub(4);
    let for_next = next.len().min(space.saturating_sub(done.len().min(DONE_MIN)).max(NEXT_MIN));
    let for_done = done.len().min(space.saturating_sub(for_next));
    section(
        &mut lines,
        &more("done", done.len(), for_done),
        done.into_iter().take(for_done).map(|row| ended(row, width, DIM)),
    );
    section(
        &mut lines,
        &more("next", next.len(), for_next),
        next.into_iter().take(for_next).map(|row| plain(row, width)),
    );
    lines.truncate(room);
    // A heading without its rows would say that there are none.
    if lines
        .last()
        .is_some_and(|line| line.style == DIM && line.spans.iter().all(|span| !span.content.starts_with(' ')))
    {
        lines.pop();
    }
    lines
}

fn more(title: &str, all: usize, shown: usize) -> String {
    if shown < all { format!("{title} ({shown} of {all})") } else { title.to_owned() }
}

fn section(lines: &mut Vec<Line<'static>>, title: &str, rows: impl Iterator<Item = Line<'static>>) {
    let mut rows = rows.peekable();
    if rows.peek().is_some() {
        lines.push(Line::styled(title.to_owned(), DIM));
        lines.extend(rows);
        lines.push(Line::default());
    }
}

/// Cut to so many columns, padded to them. Characters that take two columns or none are rare in names; a line is cut by the
/// drawing in any case.
fn fit(text: &str, columns: usize) -> String {
    let text = text.replace(|c: char| c.is_control(), " ");
    if text.chars().count() <= columns {
        return format!("{text:<columns$}");
    }
    let cut: String = text.chars().take(columns.saturating_sub(1)).collect();
    format!("{cut}…")
}

fn row_line(row: &Row, text: &str, times: &str, width: usize, style: Style) -> Line<'static> {
    let middle = width.saturating_sub(NAME + TIMES + 4);
    Line::from(vec![
        Span::styled(format!("  {} ", fit(row.id.as_str(), NAME)), style),
        Span::raw(fit(text, middle)),
        Span::styled(format!("{times:>width$}", width = TIMES), style),
    ])
}

fn passed(row: &Row, now: Timestamp) -> u64 {
    row.began.map_or(0, |began| now.0.saturating_sub(began.0))
}

fn running(row: &Row, now: Timestamp, width: usize) -> Line<'static> {
    let passed = passed(row, now);
    let times = match row.estimate {
        Some(estimate) => format!("{} of {}", clock(passed), clock(estimate)),
        None => clock(passed),
    };
    let late = row.estimate.is_some_and(|estimate| passed > estimate.saturating_mul(2).max(1_000));
    let text = match (row.progress, row.note.as_str()) {
        (Some((done, Some(all))), _) if all > 0 => {
            let percent = u128::from(done.min(all)) * 100 / u128::from(all);
            format!("{percent}% of {}", output::bytes(all))
        }
        (Some((done, _)), _) => output::bytes(done),
        (None, "") => row.what.clone(),
        (None, note) => note.to_owned(),
    };
    row_line(row, &text, &times, width, if late { Style::new().fg(Color::Yellow) } else { Style::new() })
}

fn question(row: &Row, now: Timestamp, width: usize, chosen: bool) -> Vec<Line<'static>> {
    let Stand::Asks { to, text } = &row.stand else { return Vec::new() };
    let mark = if chosen { ">" } else { " " };
    let since = clock(passed(row, now));
    vec![
        row_line(row, &format!("asks {to}"), &format!("for {since}"), width, ASKS),
        Line::styled(fit(&format!("  {mark} {text}"), width), BOLD),
    ]
}

fn stopped(state: &State, row: &Row, width: usize) -> Vec<Line<'static>> {
    let ways = format!("    muster decide {} {} retry|skip|done-by-hand|redo|abort --by NAME", state.run, row.id);
    vec![row_line(row, &row.note, "", width, BAD), Line::styled(fit(&ways, width), DIM)]
}

fn ended(row: &Row, width: usize, style: Style) -> Line<'static> {
    let took = row.ended.zip(row.began).map(|(ended, began)| clock(ended.0.saturating_sub(began.0)));
    let times = match (took, row.estimate) {
        (Some(took), Some(estimate)) => format!("{took} of {}", clock(estimate)),
        (Some(took), None) => took,
        (None, _) => String::new(),
    };
    let text = if row.note.is_empty() || row.note == "ok" { &row.what } else { &row.note };
    row_line(row, text, &times, width, style)
}

fn plain(row: &Row, width: usize) -> Line<'static> {
    row_line(row, &row.what, &row.estimate.map(clock).unwrap_or_default(), width, DIM)
}
