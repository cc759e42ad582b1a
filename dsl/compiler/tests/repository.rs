//! The plans people see first are right: `plans/shop` as it is, and each block of the README and the book beside it.

#![allow(clippy::unwrap_used, clippy::panic)] // tests and their helpers

mod common;

use common::{Texts, inventory, said};
use muster_runsheet::{Direction, Kind, Operation};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn machines() -> String {
    inventory(&[("db", "data", "10.10.20.11"), ("app", "data", "10.10.20.12"), ("web", "web", "10.10.40.13")])
}

fn shop() -> Texts {
    Texts::default()
        .with("sites.plan", &read("plans/shop/sites.plan"))
        .with("shop.plan", &read("plans/shop/shop.plan"))
        .with("inventory.json", &machines())
}

#[test]
fn the_shop_has_nothing_to_say_and_compiles_both_ways() {
    let checked = shop().check(&["shop.plan"]);
    assert_eq!(said(&checked), "");
    for kind in [Kind::Test, Kind::Planned, Kind::Unplanned, Kind::Reprotect] {
        for direction in [Direction::Out, Direction::Back] {
            let sheet = checked.compile("shop", Operation { kind, direction }, Default::default()).unwrap();
            assert!(!sheet.nodes.is_empty());
        }
    }
}

/// Blocks that use what `shop.plan` declares, as the pages around them say.
const BESIDE_THE_SHOP: [&str; 2] = ["README.md", "book/src/introduction.md"];

#[test]
fn blocks_of_the_book_are_right() {
    let mut pages: Vec<String> = std::fs::read_dir(root().join("book/src"))
        .unwrap()
        .map(|entry| format!("book/src/{}", entry.unwrap().file_name().to_str().unwrap()))
        .filter(|path| path.ends_with(".md"))
        .collect();
    pages.push("README.md".into());
    let mut blocks = 0;
    for page in pages {
        let text = read(&page);
        for block in text.split("```plan\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            blocks += 1;
            let texts = if BESIDE_THE_SHOP.contains(&page.as_str()) {
                // The plan in place of the one in the file, which declares the rest.
                let whole = read("plans/shop/shop.plan");
                let plan = whole.find("\n## The web shop").unwrap();
                let group = "group front {\n  policy   = gold\n  machines = [web]\n}\n";
                assert!(whole.contains(group), "the shop has changed: change this test");
                shop().with("page.plan", &format!("{}\n{block}", whole[..plan].replace(group, "")))
            } else {
                let house = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
                let texts = Texts::default().with("page.plan", block).with("inventory.json", &machines());
                texts.with("certs/house-ca.pem", house)
            };
            assert_eq!(said(&texts.check(&["page.plan"])), "", "a block of {page}:\n{block}");
        }
    }
    assert!(blocks >= 5, "blocks are found");
}
