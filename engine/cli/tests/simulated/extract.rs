//! What is in a vault, brought out of it: images for other hypervisors, disks on a socket, a disk made equal to a point.

use crate::shop::{Running, Shop, said};
use muster_demo::estate::HOME;
use serde_json::Value;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn tool(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("`{program}`: {error}; install tests/lab/packages.txt"));
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn hash(path: &Path) -> blake3::Hash {
    blake3::hash(&std::fs::read(path).unwrap())
}

/// The database's disks of the newest point as raw files.
fn raw(shop: &Shop, point: &str) -> Vec<PathBuf> {
    let to = text(&shop.folder.path().join("raw"));
    let written = shop.json(&["materialise", point, "db", "--to", &to]);
    written.as_array().unwrap().iter().map(|path| PathBuf::from(path.as_str().unwrap())).collect()
}

#[test]
fn images_of_every_format_hold_what_the_raw_one_holds() {
    let shop = Shop::protected();
    let point = shop.newest_point("orders");
    let raws = raw(&shop, &point);
    let formats = [
        ("qcow2", "qcow2", "qcow2"),
        ("vhd", "vhd", "vpc"),
        ("vhdx", "vhdx", "vhdx"),
        ("vmdk", "vmdk", "vmdk"),
        ("vmdk-stream", "vmdk", "vmdk"),
    ];
    for (word, suffix, of_qemu) in formats {
        let to = text(&shop.folder.path().join(word));
        let written = shop.json(&["materialise", &point, "db", "--to", &to, "--format", word]);
        assert_eq!(written.as_array().unwrap().len(), raws.len());
        for (path, raw) in written.as_array().unwrap().iter().zip(&raws) {
            let path = path.as_str().unwrap();
            assert!(path.ends_with(suffix), "{path}");
            let info: Value =
                serde_json::from_str(&tool("qemu-img", &["info", "--output=json", "-f", of_qemu, path])).unwrap();
            let size = std::fs::metadata(raw).unwrap().len();
            let expected = if word == "vhd" { size.next_multiple_of(1 << 20) } else { size };
            assert_eq!(info["virtual-size"].as_u64(), Some(expected), "{info}");
            tool("qemu-img", &["compare", "-f", of_qemu, "-F", "raw", path, &text(raw)]);
            if matches!(word, "qcow2" | "vhdx" | "vmdk") {
                tool("qemu-img", &["check", "-q", "-f", of_qemu, path]);
            }
            if word == "vhd" {
                // Fixed: the bytes, then a footer.
                assert_eq!(std::fs::metadata(path).unwrap().len(), expected + 512);
            }
        }
        assert!(std::fs::read_dir(&to).unwrap().all(|file| !text(&file.unwrap().path()).ends_with(".partial")));
    }
    let to = text(&shop.folder.path().join("vhd"));
    shop.type_in(&["materialise", &point, "db", "--to", &to, "--format", "vhd"]).ends(5).says(&["exists"]);
}

#[test]
fn without_qemu_img_it_says_what_to_install_and_leaves_nothing() {
    let shop = Shop::protected();
    let point = shop.newest_point("orders");
    let to = shop.folder.path().join("out");
    let words = ["materialise", &point, "db", "--to", &text(&to), "--format", "vhdx"];
    let mut command = shop.command(&words);
    command.env("PATH", shop.folder.path());
    said(command, &words).ends(1).says(&["`qemu-img` is not installed", "hint: ", "qemu-utils"]);
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 0);
}

/// The URIs that a `mount` prints once it serves.
fn uris(shop: &Shop, mount: &mut Running) -> Vec<String> {
    shop.wait_until("it serves", || mount.log().contains("served until interrupted") || !mount.is_running());
    let log = mount.log();
    let found: Vec<String> = log
        .split_whitespace()
        .filter(|word| word.starts_with("nbd+unix:") || word.starts_with("nbds:"))
        .map(str::to_owned)
        .collect();
    assert!(!found.is_empty(), "{log}");
    found
}

fn interrupt(mount: &mut Running) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(mount.process()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(mount.ended(), Some(0), "{}", mount.log());
}

#[test]
fn a_point_is_served_until_it_is_interrupted() {
    let shop = Shop::protected();
    let point = shop.newest_point("orders");
    let raws = raw(&shop, &point);
    let socket = text(&shop.folder.path().join("m.sock"));
    let mut mount = shop.stays(shop.command(&["mount", &point, "--socket", &socket]));
    let served = uris(&shop, &mut mount);
    for raw in &raws {
        let disk = raw.file_stem().unwrap().to_str().unwrap().replacen('-', "/", 1);
        let uri = served.iter().find(|uri| uri.contains(&disk)).unwrap();
        tool("qemu-img", &["compare", "-f", "raw", "-F", "raw", uri, &text(raw)]);
    }
    interrupt(&mut mount);
    assert!(!Path::new(&socket).exists());

    // Written into an overlay: it reads back, and the point is what it was.
    let disk = format!("{point}:{}", raws[0].file_stem().unwrap().to_str().unwrap().replacen('-', "/", 1));
    let overlay = text(&shop.folder.path().join("kept.qcow2"));
    for round in ["write -P 66 64k 4k", "read -P 66 64k 4k"] {
        let mut mount = shop.stays(shop.command(&["mount", &disk, "--writable", "--overlay", &overlay]));
        let uri = uris(&shop, &mut mount).remove(0);
        let said = tool("qemu-io", &["-f", "raw", "-c", round, &uri]);
        assert!(!said.contains("failed"), "{said}");
        interrupt(&mut mount);
    }
    shop.type_in(&["scan", &text(&raws[0]), "--against", &disk]).ends(0);
}

#[test]
fn another_machine_reads_a_point_with_a_certificate() {
    let shop = Shop::protected();
    let point = shop.newest_point("orders");
    let raws = raw(&shop, &point);
    let at = |name: &str| text(&shop.folder.path().join("certificates").join(name));
    let issue = |to: &str, rest: &[&str]| {
        let (to, authority) = (at(to), at("authority"));
        shop.type_in(&[&["certificate", "issue", &to, "--authority", &authority], rest].concat())
    };
    let words = ["mount", &point, "--listen", "127.0.0.1:0"];
    shop.type_in(&words).ends(5).says(&["over TLS only", "hint: ", "muster certificate issue"]);
    shop.type_in(&["certificate", "authority", &at("authority")]).ends(0).says(&["keep `ca-key.pem` offline"]);
    issue("here", &["--name", "127.0.0.1"]).ends(0).says(&["called 127.0.0.1"]);
    issue("here", &["--name", "127.0.0.1"]).ends(5).says(&["is already there"]);
    issue("there", &[]).ends(0).says(&["to call with"]);

    let mut command = shop.command(&words);
    command.env("MUSTER_CERTIFICATES", at("here"));
    let mut mount = shop.stays(command);
    let served = uris(&shop, &mut mount);
    for raw in &raws {
        let disk = raw.file_stem().unwrap().to_str().unwrap().replacen('-', "/", 1);
        let uri = served.iter().find(|uri| uri.contains(&disk)).unwrap();
        // From the other machine it is the same address, with that machine's own folder.
        let (address, _) = uri.split_once('?').unwrap();
        let copy = text(&shop.folder.path().join("copy.raw"));
        tool("nbdcopy", &[&format!("{address}?tls-certificates={}", at("there")), &copy]);
        tool("cmp", &[&copy, &text(raw)]);
        std::fs::remove_file(&copy).unwrap();
    }
    interrupt(&mut mount);
}

#[test]
fn a_disk_is_made_equal_to_a_point_by_differences_only() {
    let shop = Shop::protected();
    let point = shop.newest_point("orders");
    let raws = raw(&shop, &point);
    let (path, whole) = (&raws[0], hash(&raws[0]));
    let disk = raws[0].file_stem().unwrap().to_str().unwrap().replacen('-', "/", 1);
    let named = format!("{point}:{disk}");
    let words = ["scan", &text(path), "--against", &named, "--json"].map(str::to_owned);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let same = shop.type_in(&words).ends(0).data();
    assert_eq!(same["different_bytes"], 0, "{same}");

    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let (first, second) = (128 << 10, (1 << 20) + 77);
    let mut old = [0; 4];
    for at in [first, second] {
        file.read_exact_at(&mut old, at).unwrap();
        file.write_all_at(&old.map(|byte| !byte), at).unwrap();
    }
    let found = shop.type_in(&words).ends(1).data();
    assert_eq!(found["ranges"].as_array().unwrap().len(), 2, "{found}");
    assert_eq!(found["ranges"][0]["offset"], first, "{found}");
    let different = found["different_bytes"].as_u64().unwrap();
    assert!((2..=128 << 10).contains(&different), "at most two blocks: {found}");

    let over = text(path);
    let words = ["restore", &point, "--disk", &disk, "--over", &over];
    // Open to write by this test.
    let agreed: Vec<&str> = words.iter().copied().chain(["--overwrite"]).collect();
    shop.type_in(&agreed).ends(5).says(&["is in use", "has it open to write"]);
    drop(file);
    shop.type_in(&words).ends(5).says(&["would be overwritten", "--overwrite"]);
    assert_ne!(hash(path), whole);
    let report = shop.json(&agreed);
    assert_eq!(report["written_bytes"], different, "{report}");
    assert_eq!(hash(path), whole);

    let small = shop.folder.path().join("small");
    std::fs::write(&small, [0; 512]).unwrap();
    let words = ["restore", &point, "--disk", &disk, "--over", &text(&small), "--overwrite"].map(str::to_owned);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    shop.type_in(&words).ends(5).says(&["has 512 bytes", "materialise"]);
    shop.type_in(&["scan", &over, "--against", &format!("{point}:db/nothing")])
        .ends(1)
        .says(&["has no disk `nothing`"]);
}

#[test]
fn files_come_out_of_a_point() {
    let shop = Shop::new();
    shop.type_in(&["power", "off", HOME, "web"]).ends(0);
    // A machine of the laboratory has no file system; this one gets one while it is off.
    let folder = shop.folder.path();
    let disk = folder.join("lab").join(HOME).join("machines/web/root.raw");
    let (root, image) = (folder.join("root"), folder.join("image"));
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/motd"), "as it was at the point\n").unwrap();
    let size = std::fs::metadata(&disk).unwrap().len();
    std::fs::File::create(&image).unwrap().set_len(size).unwrap();
    tool("mkfs.ext4", &["-q", "-F", "-d", &text(&root), &text(&image)]);
    std::fs::File::options().write(true).open(&disk).unwrap().write_all_at(&std::fs::read(&image).unwrap(), 0).unwrap();
    shop.type_in(&["vault", "init"]).ends(0);
    shop.type_in(&["protect", "front"]).ends(0);
    shop.type_in(&["replicate", "--once"]).ends(0);

    let point = shop.newest_point("front");
    let parts = shop.json(&["files", "list", &point]);
    assert_eq!(parts[0]["disk"], "web/root", "{parts}");
    assert_eq!(parts[0]["partitions"][0]["holds"], "ext4", "{parts}");
    let listed = shop.json(&["files", "list", &point, "/etc"]);
    assert_eq!(listed[0]["path"], "/etc/motd", "{listed}");
    assert_eq!(listed[0]["bytes"], 23, "{listed}");
    let to = folder.join("to");
    shop.type_in(&["files", "copy", &point, "/etc", "--to", &text(&to)]).ends(0);
    assert_eq!(std::fs::read_to_string(to.join("etc/motd")).unwrap(), "as it was at the point\n");
    shop.type_in(&["files", "copy", &point, "/etc/motd", "--to", &text(&to.join("etc"))]).ends(5).says(&["exists"]);
    shop.type_in(&["files", "list", &point, "/nothing"]).ends(1).says(&["there is no `/nothing`"]);
    shop.type_in(&["files", "list", &point, "/", "--partition", "7"]).ends(1).says(&["there is no partition 7"]);
}
