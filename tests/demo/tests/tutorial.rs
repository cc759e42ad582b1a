//! The tutorial tells the story that `cargo demo` plays: every command it names is typed there, as it stands.

#![allow(clippy::expect_used)]

const TUTORIAL: &str = include_str!("../../../book/src/tutorial.md");
const STORY: &str = include_str!("../src/story.rs");

/// The commands of the tutorial's shell blocks, without `muster` and without remarks.
fn commands() -> Vec<Vec<String>> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in TUTORIAL.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside && let Some(words) = line.strip_prefix("muster ") {
            found.push(words_of(words));
        }
    }
    found
}

/// Splits at blanks, but not inside quotes.
fn words_of(line: &str) -> Vec<String> {
    line.split('"')
        .enumerate()
        .flat_map(|(part, text)| match part % 2 {
            0 => text.split_whitespace().map(str::to_owned).collect(),
            _ => vec![text.to_owned()],
        })
        .collect()
}

#[test]
fn every_command_of_the_tutorial_is_typed_by_the_demo() {
    let commands = commands();
    assert!(commands.len() > 12, "the tutorial has {} commands", commands.len());
    for words in commands {
        let literal = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        assert!(STORY.contains(&literal), "the demo never types `muster {}`", words.join(" "));
    }
}
