//! Real file systems, made by their own tools, read out of real partition tables; and what damage does to the readers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where something is wrong")]

use muster_extract::files::{self, Kind};
use muster_extract::partitions::{Holds, Partition, partitions};
use muster_ports::BlockSource;
use muster_replication::pipeline::FileDisk;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const MIB: u64 = 1 << 20;

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C.UTF-8").output();
    let output =
        output.unwrap_or_else(|error| panic!("`{program}`: {error}; install engine/extract/tests/packages.txt"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn image(path: &Path, mib: u64) {
    std::fs::File::create(path).unwrap().set_len(mib * MIB).unwrap();
}

fn disk(path: &Path) -> Arc<dyn BlockSource> {
    Arc::new(FileDisk::open(path).unwrap())
}

/// The same bytes in every run, of no pattern that compresses or repeats in blocks.
fn bytes(count: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// What every file system of these tests holds.
fn contents() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("hello.txt", b"hello from a point\n".to_vec()),
        ("empty", Vec::new()),
        ("large.bin", bytes(3_000_001, 7)),
        ("A name with blanks and \u{e4}.dat", bytes(70_000, 9)),
    ]
}

fn fill(folder: &Path) {
    for (name, content) in contents() {
        std::fs::write(folder.join(name), content).unwrap();
    }
}

fn ext4(folder: &Path, path: &Path) {
    let root = folder.join("root");
    std::fs::create_dir_all(root.join("var/lib/orders")).unwrap();
    fill(&root.join("var/lib/orders"));
    std::os::unix::fs::symlink("/etc/passwd", root.join("var/lib/orders/link")).unwrap();
    std::fs::write(root.join("top"), b"top").unwrap();
    image(path, 24);
    run("mkfs.ext4", &["-q", "-F", "-d", &text(&root), &text(path)]);
}

fn assert_same(folder: &Path) {
    for (name, content) in contents() {
        let copied = std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(blake3::hash(&copied), blake3::hash(&content), "{name}");
    }
}

async fn only(path: &Path) -> Partition {
    let found = partitions(disk(path)).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_out_of_ext4_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    ext4(folder.path(), &path);
    let part = only(&path).await;
    assert_eq!((part.number, part.holds), (0, Holds::Ext4));

    let listed = files::list(disk(&path), &part, Path::new("/var/lib/orders")).await.unwrap();
    let names: Vec<(PathBuf, Kind, u64)> =
        listed.into_iter().map(|entry| (entry.path, entry.kind, entry.bytes)).collect();
    assert!(names.contains(&("/var/lib/orders/large.bin".into(), Kind::File, 3_000_001)), "{names:?}");
    assert!(names.iter().any(|(path, kind, _)| path.ends_with("link") && *kind == Kind::Link), "{names:?}");

    let to = folder.path().join("to");
    let wanted = ["/var/lib".into(), "top".into()];
    let copied = files::copy(disk(&path), &part, &wanted, &to).await.unwrap();
    assert_same(&to.join("lib/orders"));
    assert_eq!(std::fs::read(to.join("top")).unwrap(), b"top");
    assert_eq!((copied.files, copied.folders), (5, 2), "{copied:?}");
    assert_eq!(copied.left_out, ["`/var/lib/orders/link` is a link"]);
    assert!(!to.join("lib/orders/link").exists());

    let again = files::copy(disk(&path), &part, &["top".into()], &to).await.unwrap_err();
    assert!(again.message.contains("exists"), "{again}");
    let missing = files::list(disk(&path), &part, Path::new("/var/nothing")).await.unwrap_err();
    assert!(missing.message.contains("there is no `/var/nothing`"), "{missing}");
    let up = files::list(disk(&path), &part, Path::new("/var/../../etc")).await.unwrap_err();
    assert!(up.message.contains("goes up"), "{up}");
}

/// What an xfs of these tests holds: no name with a blank, which its maker's list of files does not take.
fn xfs_contents() -> Vec<(&'static str, Vec<u8>)> {
    contents().into_iter().filter(|(name, _)| !name.contains(' ')).collect()
}

/// Made with the files in it: a folder of each size, links, and names of up to 255 bytes.
fn xfs(folder: &Path, path: &Path, many: usize, options: &[&str]) {
    let root = folder.join("xfs-root");
    std::fs::create_dir_all(&root).unwrap();
    for (name, content) in xfs_contents() {
        std::fs::write(root.join(name), content).unwrap();
    }
    let from = |name: &str| text(&root.join(name));
    let mut list = String::from("boot\n0 0\nd--755 0 0\nvar d--755 0 0\nlib d--755 0 0\norders d--755 0 0\n");
    for (name, _) in xfs_contents() {
        list.push_str(&format!("{name} ---644 0 0 {}\n", from(name)));
    }
    list.push_str("link l--777 0 0 /etc/passwd\nback l--777 0 0 ../orders/hello.txt\n$\n$\n");
    list.push_str("round l--777 0 0 /var/round\nfifo p--644 0 0\n$\n");
    list.push_str("far l--777 0 0 /var/lib/orders/hello.txt\n");
    for (name, count) in [("some", 60), ("many", many)] {
        list.push_str(&format!("{name} d--755 0 0\n"));
        for number in 0..count {
            let name = if number == 7 { "x".repeat(255) } else { format!("entry-with-a-name-{number:05}") };
            list.push_str(&format!("{name} ---644 0 0 {}\n", from("empty")));
        }
        list.push_str("$\n");
    }
    list.push_str("$\n");
    let proto = folder.join("proto");
    std::fs::write(&proto, list).unwrap();
    image(path, 40);
    // "Unsupported" only means small: below 300 MiB its maker wants to be asked twice.
    run("mkfs.xfs", &[&["--unsupported", "-q", "-f", "-p", &text(&proto)], options, &[&text(path)]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_out_of_xfs_as_they_went_in() {
    for options in [&[][..], &["-m", "crc=0"], &["-b", "size=1024", "-n", "size=4096"], &["-i", "size=1024"]] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        xfs(folder.path(), &path, 4_000, options);
        let part = only(&path).await;
        assert_eq!(part.holds, Holds::Xfs);
        let list = async |at: &str| files::list(disk(&path), &part, Path::new(at)).await;
        let listed = list("/var/lib/orders").await.unwrap();
        let names: Vec<_> =
            listed.iter().map(|entry| (entry.path.to_str().unwrap(), entry.kind, entry.bytes)).collect();
        assert!(names.contains(&("/var/lib/orders/large.bin", Kind::File, 3_000_001)), "{options:?} {names:?}");
        assert!(names.contains(&("/var/lib/orders/link", Kind::Link, 11)), "{options:?} {names:?}");
        assert!(list("/var").await.unwrap().iter().any(|entry| entry.kind == Kind::Special), "{options:?}");
        for (folder, count) in [("some", 60), ("many", 4_000)] {
            let names: std::collections::BTreeSet<_> =
                list(folder).await.unwrap().into_iter().map(|entry| entry.path).collect();
            assert_eq!(names.len(), count, "{options:?} {folder}");
            assert!(names.contains(&Path::new("/").join(folder).join("x".repeat(255))), "{options:?}");
            assert!(names.contains(&Path::new("/").join(folder).join("entry-with-a-name-00042")), "{options:?}");
        }

        let to = folder.path().join("to");
        let wanted = ["/var/lib".into(), "/var/lib/orders/back".into(), "/far".into()];
        let copied = files::copy(disk(&path), &part, &wanted, &to).await.unwrap();
        for (name, content) in xfs_contents() {
            assert_eq!(std::fs::read(to.join("lib/orders").join(name)).unwrap(), content, "{options:?} {name}");
        }
        // Links are followed where they are asked for by name.
        for name in ["back", "far"] {
            assert_eq!(std::fs::read(to.join(name)).unwrap(), b"hello from a point\n", "{options:?} {name}");
        }
        assert_eq!(copied.left_out.len(), 2, "{copied:?}");
        let round = list("/var/round").await.unwrap_err();
        assert!(round.message.contains("links go round"), "{round}");
        let missing = list("/var/nothing").await.unwrap_err();
        assert!(missing.message.contains("there is no `/var/nothing`"), "{missing}");
        let file = list("/var/lib/orders/hello.txt/x").await.unwrap_err();
        assert!(file.message.contains("is no folder"), "{file}");
    }
}

/// A disk that the kernel's driver wrote: 3,000 KiB in `pieces`, each KiB its number over and over, of which every second one
/// was punched out again, so that its extents fill a tree of two levels; holes and room that was never written in `sparse`; a
/// folder of 1,500 names from which every third one was deleted; a link too long for its inode.
#[tokio::test(flavor = "multi_thread")]
async fn an_xfs_in_many_pieces_reads_as_its_driver_wrote_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let packed = include_bytes!("golden/xfs-in-pieces.zst");
    std::fs::write(&path, zstd::decode_all(&packed[..]).unwrap()).unwrap();
    let part = only(&path).await;
    let to = folder.path().join("to");
    files::copy(disk(&path), &part, &["/".into()], &to).await.unwrap();

    let pieces = std::fs::read(to.join("pieces")).unwrap();
    let line = |number: usize| if number.is_multiple_of(2) { format!("{number:07}\n") } else { "\0".repeat(8) };
    let expected: Vec<u8> = (0..3_000).flat_map(|number| line(number).repeat(128).into_bytes()).collect();
    assert!(pieces == expected, "{} bytes, not {}", pieces.len(), expected.len());
    let sparse = std::fs::read(to.join("sparse")).unwrap();
    let mut expected = vec![0; (2 << 20) + (64 << 10) + 6];
    for (at, text) in [(0, &b"begin"[..]), (1 << 20, b"end"), ((2 << 20) + (64 << 10), b"behind")] {
        expected[at..at + text.len()].copy_from_slice(text);
    }
    assert!(sparse == expected, "holes");
    files::copy(disk(&path), &part, &["/far".into()], &to).await.unwrap();
    assert!(std::fs::read(to.join("far")).unwrap() == expected, "behind a long link");
    let names = files::list(disk(&path), &part, Path::new("/gaps")).await.unwrap();
    assert_eq!(names.len(), 1_000);
    assert!(names.iter().all(|entry| entry.path != Path::new("/gaps/entry-with-a-name-00003")));
    assert_eq!(std::fs::read(to.join("A name with blanks and \u{e4}.dat")).unwrap(), b"blank\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_out_of_ntfs_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    image(&path, 24);
    run("mkntfs", &["-q", "-F", "-f", &text(&path)]);
    fill(folder.path());
    for (name, _) in contents() {
        run("ntfscp", &["-q", &text(&path), &text(&folder.path().join(name)), name]);
    }
    let part = only(&path).await;
    assert_eq!(part.holds, Holds::Ntfs);
    let listed = files::list(disk(&path), &part, Path::new("/")).await.unwrap();
    assert!(listed.iter().any(|entry| entry.path == Path::new("/hello.txt") && entry.bytes == 19), "{listed:?}");
    let to = folder.path().join("to");
    let wanted: Vec<PathBuf> = contents().iter().map(|(name, _)| PathBuf::from(name)).collect();
    files::copy(disk(&path), &part, &wanted, &to).await.unwrap();
    assert_same(&to);
    let other = files::list(disk(&path), &part, Path::new("/HELLO.TXT")).await.unwrap();
    assert_eq!(other.len(), 1, "names are found without regard to case");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_out_of_fat_in_a_partition() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    fill(folder.path());
    let part = folder.path().join("part");
    image(&part, 40);
    run("mkfs.vfat", &["-F", "32", &text(&part)]);
    run("mmd", &["-i", &text(&part), "::/EFI"]);
    for (name, _) in contents() {
        run("mcopy", &["-i", &text(&part), &text(&folder.path().join(name)), "::/EFI/"]);
    }
    // A disk of a virtual machine: FAT in the first partition, ext4 in the second, with a GPT around them.
    let second = folder.path().join("second");
    ext4(folder.path(), &second);
    image(&path, 80);
    run("sgdisk", &["-n", "1:2048:+40M", "-t", "1:ef00", "-n", "3:0:+24M", &text(&path)]);
    for (from, seek) in [(&part, 1), (&second, 41)] {
        let (from, seek) = (format!("if={}", from.display()), format!("seek={seek}"));
        run("dd", &[&from, &format!("of={}", path.display()), "bs=1M", &seek, "conv=notrunc", "status=none"]);
    }
    let found = partitions(disk(&path)).await.unwrap();
    let told: Vec<_> = found.iter().map(|part| (part.number, part.offset, part.bytes, part.holds)).collect();
    assert_eq!(told, [(1, MIB, 40 * MIB, Holds::Fat), (3, 41 * MIB, 24 * MIB, Holds::Ext4)]);
    let to = folder.path().join("to");
    files::copy(disk(&path), &found[0], &["/efi".into()], &to).await.unwrap();
    assert_same(&to.join("efi"));
    files::copy(disk(&path), &found[1], &["/var".into()], &to).await.unwrap();
    assert_same(&to.join("var/lib/orders"));

    // Without the first table the one at the end is read.
    run(
        "dd",
        &["if=/dev/zero", &format!("of={}", path.display()), "bs=512", "count=34", "conv=notrunc", "status=none"],
    );
    assert_eq!(partitions(disk(&path)).await.unwrap(), found);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    for (at, mark, word) in [(0, &b"LUKS\xba\xbe"[..], "luks"), (0x10040, b"_BHRfS_M", "btrfs")] {
        let mut content = vec![0; 2 << 20];
        content[at..at + mark.len()].copy_from_slice(mark);
        std::fs::write(&path, content).unwrap();
        let part = only(&path).await;
        let refused = files::list(disk(&path), &part, Path::new("/")).await.unwrap_err();
        assert!(refused.message.contains(&format!("out of {word}")), "{refused}");
        assert!(refused.help.unwrap().contains("muster mount"));
    }
}

/// Every damage ends in an answer: names, bytes or a failure, never a panic and never a run without end.
#[tokio::test(flavor = "multi_thread")]
async fn damage_ends_in_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("ext4");
    ext4(folder.path(), &whole);
    let ntfs = folder.path().join("ntfs");
    image(&ntfs, 8);
    run("mkntfs", &["-q", "-F", "-f", &text(&ntfs)]);
    std::fs::write(folder.path().join("small"), bytes(9000, 3)).unwrap();
    run("ntfscp", &["-q", &text(&ntfs), &text(&folder.path().join("small")), "small"]);
    let fat = folder.path().join("fat");
    image(&fat, 2);
    run("mkfs.vfat", &[&text(&fat)]);
    run("mcopy", &["-i", &text(&fat), &text(&folder.path().join("small")), "::/small"]);
    let xfs_disk = folder.path().join("xfs");
    xfs(folder.path(), &xfs_disk, 80, &[]);
    let damaged = folder.path().join("damaged");
    let mut answers = 0;
    for (number, path) in [whole, ntfs, fat, xfs_disk].iter().enumerate() {
        let clean = std::fs::read(path).unwrap();
        // Where the structures lie: the first blocks, and what follows them where something stands.
        let places: Vec<usize> = (0..clean.len()).filter(|at| clean[*at] != 0).take(40_000).collect();
        for round in 0..40usize {
            let mut bad = clean.clone();
            for (index, value) in bytes(8, (round * 31 + number) as u32 + 1).into_iter().enumerate() {
                let pick = (round * 7919 + index * 104_729 + usize::from(value) * 13) % places.len();
                bad[places[pick]] ^= value | 1;
            }
            std::fs::write(&damaged, bad).unwrap();
            for part in partitions(disk(&damaged)).await.unwrap() {
                let to = tempfile::tempdir_in(folder.path()).unwrap();
                match files::copy(disk(&damaged), &part, &["/".into()], to.path()).await {
                    Ok(_) => {}
                    Err(failure) => assert!(!failure.message.contains("gave up"), "{number} {round}: {failure}"),
                }
                answers += 1;
            }
        }
    }
    assert!(answers >= 120, "{answers}");
}
