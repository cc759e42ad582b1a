//! The footer of a fixed VHD: raw bytes with 512 bytes behind them, as Azure takes them.
//!
//! Source: "Virtual Hard Disk Image Format Specification", version 1.0 (Microsoft, 2006), "Hard Disk Footer Format",
//! "CHS Calculation". Azure asks besides for a size in whole MiB and a fixed disk ("Prepare a Windows VHD or VHDX to
//! upload to Azure").

use muster_ports::Timestamp;

/// Disks are made this much longer at most, with zeroes, so that their size is a multiple of it: Azure refuses others.
pub(crate) const ALIGNMENT_BYTES: u64 = 1 << 20;
pub(crate) const FOOTER_BYTES: usize = 512;
const SECTOR_BYTES: u64 = 512;
/// 2000-01-01T00:00:00Z, from which VHDs count seconds.
const EPOCH_SECONDS: u64 = 946_684_800;
/// The largest geometry that a VHD can tell, in sectors.
const CHS_SECTORS_MAX: u64 = 65535 * 16 * 255;
const CHECKSUM_AT: usize = 64;

pub(crate) fn footer(size: u64, made: Timestamp, id: [u8; 16]) -> [u8; FOOTER_BYTES] {
    let mut footer = [0; FOOTER_BYTES];
    let mut put = |at: usize, bytes: &[u8]| footer[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"conectix");
    // Features: the bit that is always set. File format version 1.0.
    put(8, &2u32.to_be_bytes());
    put(12, &0x0001_0000u32.to_be_bytes());
    // No header follows elsewhere: fixed.
    put(16, &u64::MAX.to_be_bytes());
    let seconds = (made.0 / 1000).saturating_sub(EPOCH_SECONDS);
    put(24, &u32::try_from(seconds).unwrap_or(u32::MAX).to_be_bytes());
    // Readers go by the creator whether the size or the (rounded) geometry counts; under this name it is the size.
    put(28, b"win ");
    put(32, &0x000a_0000u32.to_be_bytes());
    put(36, b"Wi2k");
    put(40, &size.to_be_bytes());
    put(48, &size.to_be_bytes());
    put(56, &geometry(size));
    // Fixed.
    put(60, &2u32.to_be_bytes());
    put(68, &id);
    let sum = footer.iter().fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    footer[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&(!sum).to_be_bytes());
    footer
}

/// Cylinders, heads and sectors per track, by the specification's own rule.
fn geometry(size: u64) -> [u8; 4] {
    let total = (size / SECTOR_BYTES).min(CHS_SECTORS_MAX);
    let (heads, sectors);
    let mut rows;
    if total >= 65535 * 16 * 63 {
        (heads, sectors) = (16, 255);
        rows = total / sectors;
    } else {
        let mut per_track = 17;
        rows = total / per_track;
        let mut count = rows.div_ceil(1024).max(4);
        if rows >= count * 1024 || count > 16 {
            (per_track, count) = (31, 16);
            rows = total / per_track;
        }
        if rows >= count * 1024 {
            (per_track, count) = (63, 16);
            rows = total / per_track;
        }
        (heads, sectors) = (count, per_track);
    }
    rows /= heads;
    // All three fit: the total is bounded above.
    let [high, low] = (rows as u16).to_be_bytes();
    [high, low, heads as u8, sectors as u8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometries_follow_the_specification() {
        let sectors = |mib: u64| geometry(mib << 20);
        // Worked out by hand: 81,920 sectors are 963 cylinders of 5 heads of 17; beyond 127 GiB all is at its end.
        assert_eq!(sectors(40), [3, 195, 5, 17]);
        assert_eq!(sectors(2048 << 10), [0xff, 0xff, 16, 255]);
    }

    #[test]
    fn a_footer_sums_up() {
        let footer = footer(8 << 20, Timestamp(946_684_800_000 + 5_000), [7; 16]);
        let mut plain = footer;
        plain[CHECKSUM_AT..CHECKSUM_AT + 4].fill(0);
        let sum: u32 = plain.iter().map(|byte| u32::from(*byte)).sum();
        assert_eq!(footer[CHECKSUM_AT..CHECKSUM_AT + 4], (!sum).to_be_bytes());
        assert_eq!(footer[24..28], 5u32.to_be_bytes());
        assert_eq!(footer[40..48], (8u64 << 20).to_be_bytes());
    }
}
