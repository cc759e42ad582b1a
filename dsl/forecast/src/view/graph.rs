//! The graph as text for other tools: mermaid and dot.

use muster_runsheet::{EdgeKind, Node, NodeKind, Runsheet};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A mermaid flowchart. Gates are hexagons, barriers rounded; an edge that only waits for an end is dotted.
pub fn mermaid(sheet: &Runsheet) -> String {
    let index: BTreeMap<_, _> = sheet.nodes.iter().enumerate().map(|(index, node)| (&node.id, index)).collect();
    let mut out = String::from("graph LR\n");
    for (number, node) in sheet.nodes.iter().enumerate() {
        let label = node.id.as_str().replace('"', "'");
        let shape = match node.kind {
            NodeKind::Barrier => format!("([\"{label}\"])"),
            NodeKind::Gate => format!("{{{{\"{label}\"}}}}"),
            _ => format!("[\"{label}\"]"),
        };
        let _ = writeln!(out, "  n{number}{shape}"); // writing to a String cannot fail
    }
    for edge in &sheet.edges {
        let (Some(from), Some(to)) = (index.get(&edge.from), index.get(&edge.to)) else { continue };
        let arrow = if edge.kind == EdgeKind::Ends { "-. ends .->" } else { "-->" };
        let _ = writeln!(out, "  n{from} {arrow} n{to}");
    }
    out
}

/// A Graphviz digraph, one cluster a phase.
pub fn dot(sheet: &Runsheet) -> String {
    let mut out = format!(
        "digraph \"{} {}\" {{\n  rankdir=LR;\n  node [shape=box, fontname=monospace];\n",
        sheet.plan, sheet.operation
    );
    let mut phases: BTreeMap<_, Vec<&Node>> = BTreeMap::new();
    for node in &sheet.nodes {
        phases.entry(node.phase).or_default().push(node);
    }
    for (phase, nodes) in phases {
        let word = format!("{phase:?}").to_lowercase();
        let _ = writeln!(out, "  subgraph cluster_{word} {{\n    label=\"{word}\";");
        for node in nodes {
            let shape = match node.kind {
                NodeKind::Barrier => " [shape=ellipse]",
                NodeKind::Gate => " [shape=hexagon]",
                _ => "",
            };
            let _ = writeln!(out, "    {:?}{shape};", node.id.as_str());
        }
        out.push_str("  }\n");
    }
    for edge in &sheet.edges {
        let style = if edge.kind == EdgeKind::Ends { " [style=dashed, label=ends]" } else { "" };
        let _ = writeln!(out, "  {:?} -> {:?}{style};", edge.from.as_str(), edge.to.as_str());
    }
    out.push_str("}\n");
    out
}
