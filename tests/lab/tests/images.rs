//! The images are made, and the checks see what is wrong.

use muster_lab::record::{Record, Tally};
use muster_lab::{Images, LabDir, check_root};

fn record(sequence: u64) -> [u8; 64] {
    Record { sequence, nanos: 7, boot: 3, host: "db".to_owned() }.encode()
}

#[test]
fn a_fresh_root_disk_is_a_clean_file_system() {
    let images = Images::prepare(&LabDir::shared()).unwrap();
    assert!(check_root(&images.root_disk()).unwrap());
}

#[test]
fn records_read_back() {
    let bytes = record(9);
    let read = Record::decode(&bytes).unwrap();
    assert_eq!((read.sequence, read.host.as_str()), (9, "db"));
    for at in 0..bytes.len() {
        let mut hurt = bytes;
        hurt[at] ^= 1;
        assert_eq!(Record::decode(&hurt), None, "byte {at}");
    }
}

#[test]
fn the_tally_sees_gaps_bad_records_and_torn_ends() {
    let log = |numbers: &[u64]| numbers.iter().flat_map(|number| record(*number)).collect::<Vec<u8>>();
    assert_eq!(Tally::of(&log(&[1, 2, 3])).gaps, 0);
    assert_eq!(Tally::of(&log(&[1, 3])).gaps, 1);
    assert_eq!(Tally::of(&log(&[1, 2, 2])).backwards, 1);
    let mut torn = log(&[1, 2, 3]);
    torn.truncate(150);
    let tally = Tally::of(&torn);
    assert!(tally.torn && tally.bad == 0 && tally.last == 2 && tally.good_bytes == 128);
    let mut hurt = log(&[1, 2, 3]);
    hurt[70] ^= 0xff;
    assert_eq!(Tally::of(&hurt).bad, 1);
}
