//! The graph as a picture that needs no other program: SVG, laid out in layers.
//!
//! Time runs downwards. A step stands in the layer below the last step it waits for; layers are ordered by where the steps
//! before stand, so that few lines cross. Large sheets give large pictures: nothing is left out.

use crate::estimate::{Fate, Span};
use crate::forecast::Forecast;
use crate::view::table::{clock, seconds};
use muster_runsheet::{Action, Duration, EdgeKind, Node, NodeKind, Runsheet};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Pixels.
const CHAR: usize = 7;
const BOX_HEIGHT: usize = 38;
/// From one layer to the next.
const LAYER: usize = 64;
/// Between the boxes of a layer.
const GAP: usize = 24;
const MARGIN: usize = 24;
const HEAD: usize = 48;
const DOT: usize = 10;
/// So that the heading fits.
const TITLE_WIDTH: usize = 560;
/// Characters of a label; a longer name ends in dots and is whole in the title of its box.
const LABEL_MAX: usize = 36;
/// Times the layers are ordered anew by what stands before them: more changes little.
const SWEEPS: usize = 4;

/// Where a step stands.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    x: usize,
    y: usize,
    width: usize,
}

/// A drawing of the sheet with its times; the longest way is red.
pub fn svg(forecast: &Forecast<'_>) -> String {
    let sheet = forecast.sheet;
    let layers = layers(sheet);
    let (places, width, height) = places(sheet, &layers);
    let index: BTreeMap<_, usize> = sheet.nodes.iter().enumerate().map(|(at, node)| (&node.id, at)).collect();
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"monospace\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
    );
    let title = format!("{} · {} · {} → {}", sheet.plan, sheet.operation, sheet.source, sheet.target);
    let _ = writeln!(
        out,
        "<text x=\"{MARGIN}\" y=\"28\" font-size=\"15\">{}</text>",
        escape(&(title + &promise(forecast)))
    );
    for edge in &sheet.edges {
        let (Some(from), Some(to)) = (index.get(&edge.from), index.get(&edge.to)) else { continue };
        let spans = &forecast.estimate.steps;
        let tight = spans[*from].critical && spans[*to].critical && spans[*from].end() == spans[*to].start;
        let below = height_of(&sheet.nodes[*from]);
        out.push_str(&line(places[*from], below, places[*to], edge.kind, tight));
    }
    for ((node, span), place) in sheet.nodes.iter().zip(&forecast.estimate.steps).zip(&places) {
        out.push_str(&figure(node, span, *place));
    }
    out.push_str("</svg>\n");
    out
}

fn promise(forecast: &Forecast<'_>) -> String {
    let total = forecast.estimate.objective.map_or_else(|| "never".to_owned(), seconds);
    match forecast.sheet.rto.filter(|_| forecast.sheet.operation.kind.is_live()) {
        Some(rto) => format!(" · estimate {total} of {rto}"),
        None => format!(" · estimate {total}"),
    }
}

/// Steps by layer, in the order they stand in it.
fn layers(sheet: &Runsheet) -> Vec<Vec<usize>> {
    let index: BTreeMap<_, usize> = sheet.nodes.iter().enumerate().map(|(at, node)| (&node.id, at)).collect();
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); sheet.nodes.len()];
    for edge in &sheet.edges {
        if let (Some(from), Some(to)) = (index.get(&edge.from), index.get(&edge.to)) {
            before[*to].push(*from);
        }
    }
    let mut layer = vec![0_usize; sheet.nodes.len()];
    // Every edge of a sheet points forward.
    for at in 0..sheet.nodes.len() {
        layer[at] = before[at].iter().map(|from| layer[*from] + 1).max().unwrap_or(0);
    }
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); layer.iter().max().map_or(0, |last| last + 1)];
    for (at, layer) in layer.iter().enumerate() {
        layers[*layer].push(at);
    }
    let mut slot = vec![0_usize; sheet.nodes.len()];
    for _ in 0..SWEEPS {
        for layer in &mut layers {
            let middle = |at: &usize| {
                let from = &before[*at];
                if from.is_empty() { 0 } else { from.iter().map(|from| slot[*from] * 64).sum::<usize>() / from.len() }
            };
            layer.sort_by_key(|at| (middle(at), *at));
            for (place, at) in layer.iter().enumerate() {
                slot[*at] = place;
            }
        }
    }
    layers
}

/// Layers are centred below each other. With the size of the picture.
fn places(sheet: &Runsheet, layers: &[Vec<usize>]) -> (Vec<Place>, usize, usize) {
    let mut places = vec![Place::default(); sheet.nodes.len()];
    let width_of = |layer: &Vec<usize>| {
        let boxes: usize = layer.iter().map(|at| box_width(&sheet.nodes[*at])).sum();
        boxes + layer.len().saturating_sub(1) * GAP
    };
    let widest = layers.iter().map(width_of).max().unwrap_or(0).max(TITLE_WIDTH);
    let mut y = HEAD;
    for layer in layers {
        let mut x = MARGIN + (widest - width_of(layer)) / 2;
        for at in layer {
            let width = box_width(&sheet.nodes[*at]);
            places[*at] = Place { x, y, width };
            x += width + GAP;
        }
        // A layer of joints needs no room for boxes.
        y += if layer.iter().all(|at| is_dot(&sheet.nodes[*at])) { DOT + GAP } else { LAYER };
    }
    (places, widest + 2 * MARGIN, y + MARGIN)
}

fn is_dot(node: &Node) -> bool {
    matches!(node.action, Action::Barrier)
}

fn label(node: &Node) -> String {
    let id = node.id.as_str();
    if id.chars().count() <= LABEL_MAX {
        return id.to_owned();
    }
    id.chars().take(LABEL_MAX - 1).collect::<String>() + "…"
}

fn box_width(node: &Node) -> usize {
    if is_dot(node) { DOT } else { (label(node).chars().count().max(18)) * CHAR + 16 }
}

fn height_of(node: &Node) -> usize {
    if is_dot(node) { DOT } else { BOX_HEIGHT }
}

fn line(from: Place, below: usize, to: Place, kind: EdgeKind, critical: bool) -> String {
    let (x1, y1) = (from.x + from.width / 2, from.y + below);
    let (x2, y2) = (to.x + to.width / 2, to.y);
    let bend = (y2.saturating_sub(y1) / 2).max(GAP / 2);
    let color = if critical { "#c0392b" } else { "#9aa5b1" };
    let dash = if kind == EdgeKind::Ends { " stroke-dasharray=\"5 4\"" } else { "" };
    let width = if critical { 2 } else { 1 };
    format!(
        "<path d=\"M{x1} {y1} C{x1} {} {x2} {} {x2} {y2}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\"{dash}/>\n",
        y1 + bend,
        y2.saturating_sub(bend),
    )
}

fn figure(node: &Node, span: &Span, place: Place) -> String {
    let Place { x, y, width } = place;
    if is_dot(node) {
        let (cx, cy) = (x + DOT / 2, y + DOT / 2);
        let id = escape(node.id.as_str());
        return format!("<circle cx=\"{cx}\" cy=\"{cy}\" r=\"4\" fill=\"#9aa5b1\"><title>{id}</title></circle>\n");
    }
    let critical = span.critical && span.took != Duration::ZERO;
    let no_return = matches!(node.action, Action::NoReturn);
    let fill = match (no_return, span.fate, node.stage.is_some() && !node.made_by.starts_with("rule: ")) {
        (true, _, _) => "#f9d6d2",
        (_, Fate::Stuck | Fate::Never | Fate::Degraded | Fate::Waived, _) => "#fdebd0",
        (_, _, true) => "#e8f1fb",
        _ => "#f1f3f5",
    };
    let stroke = if critical || no_return { "#c0392b" } else { "#52606d" };
    // Questions have curved ends.
    let radius = if node.kind == NodeKind::Gate { BOX_HEIGHT / 2 } else { 4 };
    let mut out = format!(
        "<g><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{BOX_HEIGHT}\" rx=\"{radius}\" fill=\"{fill}\" \
         stroke=\"{stroke}\" stroke-width=\"{}\"/>",
        escape(&format!("{}: {}", node.id, muster_runsheet::view::words(&node.action))),
        if critical { 2 } else { 1 },
    );
    let (left, first, second) = (x + 8, y + 16, y + 30);
    let _ = write!(out, "<text x=\"{left}\" y=\"{first}\">{}</text>", escape(&label(node)));
    let times = match span.start {
        Some(start) => format!("{} + {}{}", clock(start), if span.assumed() { "~" } else { "" }, clock(span.took)),
        None => "never".to_owned(),
    };
    let _ = writeln!(out, "<text x=\"{left}\" y=\"{second}\" fill=\"#52606d\">{times}</text></g>");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
