//! What hooks need: files on a landed disk, and a refusal before anything is touched.

use crate::shop::Shop;
use muster_demo::estate::HOME;

/// The shop with one more hook, run before the app starts.
fn with_hook(text: &str, hook: &str) -> String {
    let text = text.replacen("plan shop {", &format!("{hook}\nplan shop {{"), 1);
    text.replacen("    start app within 5m\n", "    run mark(app = app) within 1m\n    start app within 5m\n", 1)
}

#[test]
fn a_file_is_written_on_a_landed_disk_before_its_machine_starts() {
    let shop = Shop::protected();
    let hook = r#"
hook mark(app: machine) {
  needs = [disk]
  body  = """
    if app.disk.read("/etc/shop/site") != () { fail("it is there before it was written"); }
    app.disk.write("/etc/shop/site", "landed");
    app.disk.patch("/etc/shop/site", "landed", `at ${run.target}`);
    log.info("the disk says " + app.disk.read("/etc/shop/site"));
  """
}
"#;
    shop.write_plans(|text| with_hook(&text, hook));
    shop.play(&["drill", "shop"]);
    let log = shop.json(&["log"]).to_string();
    assert!(log.contains("the disk says at dr"), "{log}");
    shop.play(&["cleanup", "shop"]);

    // Behind the start it is refused by the compiler.
    shop.write_plans(|text| {
        let start = "    run mark(app = app) within 1m\n    start app within 5m\n";
        let late = "    start app within 5m\n    run mark(app = app) within 1m\n";
        with_hook(&text, hook).replacen(start, late, 1)
    });
    shop.type_in(&["check"]).ends(3).says(&["E0713", "which is on by then"]);
}

#[test]
fn a_secret_that_is_not_there_is_found_out_before_production_is_stopped() {
    let shop = Shop::protected();
    let hook = r#"
secret shop-key = keyring("nobody/has-this")

hook mark(app: machine) {
  needs = [ssh, secret(shop-key)]
  body  = """
    app.ssh("true", #{ user: "root", key: secret("shop-key"), host_key: "ssh-ed25519 AAAA" });
  """
}
"#;
    shop.write_plans(|text| {
        let late = "    start app within 5m\n    run mark(app = app) within 1m\n";
        with_hook(&text, hook).replacen("    run mark(app = app) within 1m\n    start app within 5m\n", late, 1)
    });
    let said = shop.type_in(&["failover", "shop", "--planned", "--no-wait"]);
    assert_ne!(said.code, Some(0), "{said:?}");
    let said = said.says(&["`mark` needs the secret `shop-key`", "the keyring has no `nobody/has-this`", "E0802"]);
    assert!(said.err.contains("nothing has been touched"), "{said:?}");
    shop.assert_runs_at(HOME);
}
