//! Whatever goes in: no panic, a plan that checks, or a refusal that says where.

#![allow(clippy::unwrap_used, clippy::panic)] // tests

mod common;

use common::{ASR, SRM, checked, errors, sources};
use muster_import::{Imported, Refusal, Source, asr, srm};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Numbers that follow from one: the same seed makes the same damage.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % below.max(1) as u64).unwrap()
    }
}

fn strange(dice: &mut Dice) -> Value {
    let texts = [
        "",
        " ",
        "stage",
        "x\"}\n{target}",
        "\u{feff}é\u{0}\u{202e}",
        "[parameters('x')]",
        "[concat(",
        "../../etc",
        "-1",
        "1e99",
        "99999999999999999999",
        "10.10.20.11",
        "10.10.20.255",
        "255.255.255.255",
        "Boot",
        "TestFailover",
        "PT9999999999999H",
        "\"\"\"",
        "#",
        "approve?",
        "end",
        "End",
        "A2A",
        "HyperVReplicaAzure",
        "InMage",
        "Microsoft Azure",
    ];
    match dice.roll(8) {
        0 => Value::Null,
        1 => json!(u64::MAX),
        2 => json!(-0.5),
        3 => json!([]),
        4 => json!({ "id": "x", "name": 7 }),
        5 => json!([[[{}]], null, "x"]),
        _ => json!(texts[dice.roll(texts.len())]),
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// Changes the part with this number: puts something else there, or doubles it.
fn damage(value: &mut Value, at: &mut usize, dice: &mut Dice) {
    if *at == 0 {
        *at = usize::MAX;
        match (dice.roll(4), &mut *value) {
            (0, Value::Array(items)) => items.extend(items.clone()),
            (1, Value::Array(items)) => items.reverse(),
            (_, other) => *other = strange(dice),
        }
        return;
    }
    if *at == usize::MAX {
        return;
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| damage(item, at, dice)),
        Value::Object(members) => members.values_mut().for_each(|item| damage(item, at, dice)),
        _ => {}
    }
}

fn holds(outcome: Result<Imported, Refusal>) -> Result<(), TestCaseError> {
    match outcome {
        Ok(imported) => {
            prop_assert_eq!(errors(&checked(&imported.text)), "", "{}", imported.text);
            prop_assert_eq!(muster_editor::format(&imported.text).unwrap(), imported.text);
        }
        Err(refusal) => {
            prop_assert!(!refusal.help.is_empty() && !refusal.what.contains("mistake of muster"), "{}", refusal);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_documents_of_azure_site_recovery(seed in any::<u64>(), which in 0..ASR.len(), wounds in 1usize..6) {
        let mut dice = Dice(seed);
        let mut all = sources(ASR[which].1);
        for _ in 0..wounds {
            let at = dice.roll(all.len());
            let mut value: Value = serde_json::from_str(&all[at].text).unwrap();
            let mut place = dice.roll(count(&value));
            damage(&mut value, &mut place, &mut dice);
            all[at].text = value.to_string();
        }
        holds(asr(&all))?;
    }

    #[test]
    fn damaged_documents_of_site_recovery_manager(seed in any::<u64>(), which in 0..SRM.len(), wounds in 1usize..8) {
        let mut dice = Dice(seed);
        let mut source = sources(SRM[which].1).remove(0);
        let words = ["<vm>", "</vm>", "&", "<name>x</name>", "P9", "vm-101", "10.1.20.11", "\"", "]]>", "{target}", "\u{feff}", "HIGHEST"];
        for _ in 0..wounds {
            let mut at = dice.roll(source.text.len());
            while !source.text.is_char_boundary(at) { at -= 1; }
            match dice.roll(3) {
                0 => source.text.insert_str(at, words[dice.roll(words.len())]),
                1 => {
                    // A tag and what it names, in both ways it is written.
                    let names = ["name", "id", "recoveryPriority", "callout", "dependentVmIds", "protectedSite", "ipAddress"];
                    let (old, new) = (names[dice.roll(names.len())], names[dice.roll(names.len())]);
                    source.text = source.text.replace(old, new);
                }
                _ => { source.text.remove(at.min(source.text.len().saturating_sub(1))); }
            }
        }
        holds(srm(&[source]))?;
    }

    #[test]
    fn any_text_at_all(text in "\\PC{0,200}", open in "[\\[{<\"]{0,3}") {
        holds(asr(&[Source::new("x", format!("{open}{text}"))]))?;
        holds(srm(&[Source::new("x", format!("{open}{text}"))]))?;
    }
}

#[test]
fn deep_and_large_documents_end() {
    for text in ["[".repeat(100_000), "{\"resources\":".repeat(5_000), "<a>".repeat(100_000), "<a ".repeat(10_000)] {
        assert!(asr(&[Source::new("x", text.clone())]).is_err());
        assert!(srm(&[Source::new("x", text)]).is_err());
    }
    let huge = Source::new("x", " ".repeat((16 << 20) + 1));
    assert!(asr(&[huge]).unwrap_err().what.contains("16 MiB"));
}
