//! Diagnostics as SARIF 2.1.0, the form in which code hosts show them beside the line.
//!
//! Rules carry the pages of the codes; regions count lines and columns from 1, columns in code points. The fields are
//! those of the standard, in its spelling.

use crate::diagnostic::{Diagnostic, Severity};
use crate::pages::explain;
use crate::source::{SourceMap, Span};
use serde::Serialize;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// The whole log: one run of one tool. Serialise it as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Log {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run; 1],
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    tool: Tool,
    column_kind: &'static str,
    results: Vec<Outcome>,
}

#[derive(Clone, Debug, Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    name: &'static str,
    version: String,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    id: String,
    short_description: Text,
    help: Page,
    default_configuration: Configuration,
}

#[derive(Clone, Debug, Serialize)]
struct Text {
    text: String,
}

#[derive(Clone, Debug, Serialize)]
struct Page {
    text: String,
    markdown: String,
}

#[derive(Clone, Debug, Serialize)]
struct Configuration {
    level: &'static str,
}

/// A `result` of the standard.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    rule_id: String,
    rule_index: usize,
    level: &'static str,
    message: Text,
    locations: [Place; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related_locations: Vec<Place>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fixes: Vec<Change>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    physical_location: Physical,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Text>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Physical {
    artifact_location: Artifact,
    region: Region,
}

#[derive(Clone, Debug, Serialize)]
struct Artifact {
    uri: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: usize,
    start_column: usize,
    end_line: usize,
    end_column: usize,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    description: Text,
    artifact_changes: [ArtifactChange; 1],
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ArtifactChange {
    artifact_location: Artifact,
    replacements: [Replacement; 1],
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Replacement {
    deleted_region: Region,
    inserted_content: Text,
}

/// The log of a check. `folder` is where the plans are, seen from where the tool runs: `plans/shop`, or empty.
pub fn sarif(diagnostics: &[Diagnostic], sources: &SourceMap, folder: &str, version: &str) -> Log {
    let mut codes: Vec<_> = diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
    codes.sort();
    codes.dedup();
    let rules = codes.iter().map(|code| {
        let page = explain(*code).unwrap_or_default();
        let title = page.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, title)| title);
        // The severity of the rule is that of its first result; each result says its own.
        let level = diagnostics.iter().find(|found| found.code == *code).map_or("error", |found| level(found.severity));
        Rule {
            id: code.to_string(),
            short_description: Text { text: title.to_owned() },
            help: Page { text: page.to_owned(), markdown: page.to_owned() },
            default_configuration: Configuration { level },
        }
    });
    let writer = Writer { sources, folder };
    let results = diagnostics.iter().map(|found| writer.outcome(found, codes.binary_search(&found.code).unwrap_or(0)));
    let driver = Driver { name: "muster", version: version.to_owned(), rules: rules.collect() };
    let run = Run { tool: Tool { driver }, column_kind: "unicodeCodePoints", results: results.collect() };
    Log { schema: SCHEMA, version: "2.1.0", runs: [run] }
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

struct Writer<'a> {
    sources: &'a SourceMap,
    folder: &'a str,
}

impl Writer<'_> {
    fn outcome(&self, found: &Diagnostic, rule_index: usize) -> Outcome {
        let mut text = found.message.clone();
        for note in &found.notes {
            text.push_str("\nnote: ");
            text.push_str(note);
        }
        if let Some(help) = &found.help {
            text.push_str("\nhelp: ");
            text.push_str(help);
        }
        let related = found.related.iter().map(|label| self.place(label.span, &label.text));
        let fixes = found.fix.iter().map(|fix| Change {
            description: Text { text: found.help.clone().unwrap_or_else(|| "write instead".to_owned()) },
            artifact_changes: [ArtifactChange {
                artifact_location: self.artifact(fix.span),
                replacements: [Replacement {
                    deleted_region: self.region(fix.span),
                    inserted_content: Text { text: fix.replacement.clone() },
                }],
            }],
        });
        Outcome {
            rule_id: found.code.to_string(),
            rule_index,
            level: level(found.severity),
            message: Text { text },
            locations: [self.place(found.primary.span, &found.primary.text)],
            related_locations: related.collect(),
            fixes: fixes.collect(),
        }
    }

    fn place(&self, span: Span, text: &str) -> Place {
        Place {
            physical_location: Physical { artifact_location: self.artifact(span), region: self.region(span) },
            message: (!text.is_empty()).then(|| Text { text: text.to_owned() }),
        }
    }

    fn artifact(&self, span: Span) -> Artifact {
        let path = self.sources.get(span.file).map_or("", |file| file.path.as_str());
        let folder = self.folder.trim_start_matches("./").trim_end_matches('/');
        let whole = match folder {
            "" | "." => path.to_owned(),
            folder => format!("{folder}/{path}"),
        };
        Artifact { uri: encoded(&whole) }
    }

    fn region(&self, span: Span) -> Region {
        let (start_line, start_column) = self.sources.position(span.file, span.start);
        let (end_line, end_column) = self.sources.position(span.file, span.end);
        Region { start_line, start_column, end_line, end_column }
    }
}

/// A relative reference of RFC 3986: everything but unreserved characters and `/` as `%XX`.
fn encoded(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Applicability;

    #[test]
    fn a_log_has_places_rules_and_fixes() {
        let mut sources = SourceMap::default();
        let file = sources.add("shop à la carte.plan", "edition 2026\n# é\nstrat db\n");
        let span = Span::new(file, 18, 23);
        let found = Diagnostic::error(101, "unknown word `strat`", span, "not known here")
            .related(Span::new(file, 0, 7), "the file")
            .note("why")
            .help("did you mean `start`?")
            .fix(span, "start", Applicability::Certain);
        let log = serde_json::to_value(sarif(&[found], &sources, "./plans/", "0.1.0")).unwrap();
        assert_eq!((&log["version"], &log["runs"][0]["columnKind"]), (&"2.1.0".into(), &"unicodeCodePoints".into()));
        let result = &log["runs"][0]["results"][0];
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "plans/shop%20%C3%A0%20la%20carte.plan");
        assert_eq!(
            place["region"],
            serde_json::json!({ "startLine": 3, "startColumn": 1, "endLine": 3, "endColumn": 6 })
        );
        assert_eq!(result["message"]["text"], "unknown word `strat`\nnote: why\nhelp: did you mean `start`?");
        let change = &result["fixes"][0]["artifactChanges"][0]["replacements"][0];
        assert_eq!(change["insertedContent"]["text"], "start");
        let rule = &log["runs"][0]["tool"]["driver"]["rules"][0];
        assert_eq!((&rule["id"], &result["ruleIndex"]), (&"E0101".into(), &0.into()));
        assert!(rule["help"]["markdown"].as_str().unwrap().starts_with("# E0101: "));
    }
}
