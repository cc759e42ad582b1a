//! One page per code, printed by `muster explain CODE`.

use crate::diagnostic::Code;

/// Every code with its page, ascending.
pub const PAGES: &[(u16, &str)] = &[
    (101, include_str!("../pages/E0101.md")),
    (102, include_str!("../pages/E0102.md")),
    (103, include_str!("../pages/E0103.md")),
    (104, include_str!("../pages/E0104.md")),
    (105, include_str!("../pages/E0105.md")),
    (106, include_str!("../pages/E0106.md")),
    (107, include_str!("../pages/E0107.md")),
    (108, include_str!("../pages/E0108.md")),
    (109, include_str!("../pages/E0109.md")),
    (110, include_str!("../pages/E0110.md")),
    (111, include_str!("../pages/E0111.md")),
    (201, include_str!("../pages/E0201.md")),
    (202, include_str!("../pages/E0202.md")),
    (203, include_str!("../pages/E0203.md")),
    (204, include_str!("../pages/E0204.md")),
    (206, include_str!("../pages/E0206.md")),
    (207, include_str!("../pages/E0207.md")),
    (208, include_str!("../pages/E0208.md")),
    (209, include_str!("../pages/E0209.md")),
    (210, include_str!("../pages/E0210.md")),
    (211, include_str!("../pages/E0211.md")),
    (212, include_str!("../pages/E0212.md")),
    (213, include_str!("../pages/E0213.md")),
    (301, include_str!("../pages/E0301.md")),
    (302, include_str!("../pages/E0302.md")),
    (303, include_str!("../pages/E0303.md")),
    (304, include_str!("../pages/E0304.md")),
    (305, include_str!("../pages/E0305.md")),
    (306, include_str!("../pages/E0306.md")),
    (307, include_str!("../pages/E0307.md")),
    (308, include_str!("../pages/E0308.md")),
    (309, include_str!("../pages/E0309.md")),
    (310, include_str!("../pages/E0310.md")),
    (311, include_str!("../pages/E0311.md")),
    (312, include_str!("../pages/E0312.md")),
    (313, include_str!("../pages/E0313.md")),
    (314, include_str!("../pages/E0314.md")),
    (315, include_str!("../pages/E0315.md")),
    (401, include_str!("../pages/E0401.md")),
    (402, include_str!("../pages/E0402.md")),
    (403, include_str!("../pages/E0403.md")),
    (404, include_str!("../pages/E0404.md")),
    (405, include_str!("../pages/E0405.md")),
    (406, include_str!("../pages/E0406.md")),
    (407, include_str!("../pages/E0407.md")),
    (408, include_str!("../pages/E0408.md")),
    (409, include_str!("../pages/E0409.md")),
    (410, include_str!("../pages/E0410.md")),
    (411, include_str!("../pages/E0411.md")),
    (412, include_str!("../pages/E0412.md")),
    (413, include_str!("../pages/E0413.md")),
    (501, include_str!("../pages/E0501.md")),
    (502, include_str!("../pages/E0502.md")),
    (503, include_str!("../pages/E0503.md")),
    (504, include_str!("../pages/E0504.md")),
    (505, include_str!("../pages/E0505.md")),
    (506, include_str!("../pages/E0506.md")),
    (507, include_str!("../pages/E0507.md")),
    (508, include_str!("../pages/E0508.md")),
    (509, include_str!("../pages/E0509.md")),
    (510, include_str!("../pages/E0510.md")),
    (511, include_str!("../pages/E0511.md")),
    (512, include_str!("../pages/E0512.md")),
    (513, include_str!("../pages/E0513.md")),
    (514, include_str!("../pages/E0514.md")),
    (515, include_str!("../pages/E0515.md")),
    (516, include_str!("../pages/E0516.md")),
    (517, include_str!("../pages/E0517.md")),
    (518, include_str!("../pages/E0518.md")),
    (601, include_str!("../pages/E0601.md")),
    (602, include_str!("../pages/E0602.md")),
    (603, include_str!("../pages/E0603.md")),
    (604, include_str!("../pages/E0604.md")),
    (605, include_str!("../pages/E0605.md")),
    (606, include_str!("../pages/E0606.md")),
    (607, include_str!("../pages/E0607.md")),
    (608, include_str!("../pages/E0608.md")),
    (609, include_str!("../pages/E0609.md")),
    (610, include_str!("../pages/E0610.md")),
    (611, include_str!("../pages/E0611.md")),
    (612, include_str!("../pages/E0612.md")),
    (701, include_str!("../pages/E0701.md")),
    (702, include_str!("../pages/E0702.md")),
    (703, include_str!("../pages/E0703.md")),
    (704, include_str!("../pages/E0704.md")),
    (705, include_str!("../pages/E0705.md")),
    (706, include_str!("../pages/E0706.md")),
    (707, include_str!("../pages/E0707.md")),
    (708, include_str!("../pages/E0708.md")),
    (709, include_str!("../pages/E0709.md")),
    (710, include_str!("../pages/E0710.md")),
    (711, include_str!("../pages/E0711.md")),
    (712, include_str!("../pages/E0712.md")),
    (713, include_str!("../pages/E0713.md")),
    (801, include_str!("../pages/E0801.md")),
    (802, include_str!("../pages/E0802.md")),
    (803, include_str!("../pages/E0803.md")),
    (804, include_str!("../pages/E0804.md")),
    (805, include_str!("../pages/E0805.md")),
    (806, include_str!("../pages/E0806.md")),
    (901, include_str!("../pages/E0901.md")),
    (902, include_str!("../pages/E0902.md")),
    (903, include_str!("../pages/E0903.md")),
    (904, include_str!("../pages/E0904.md")),
    (905, include_str!("../pages/E0905.md")),
    (906, include_str!("../pages/E0906.md")),
];

/// Codes that are kept for what cannot happen yet, each with why. Nothing says them, and they have no page.
pub const KEPT: &[(u16, &str)] = &[(
    205,
    "E0205 is kept for a name that is newer than the `edition` of its file. So far there is one edition, 2026, and it has \
     every name: nothing can say this code yet.",
)];

/// The page of a code; of a kept one, why it has none.
pub fn explain(code: Code) -> Option<&'static str> {
    let of = |table: &'static [(u16, &'static str)]| {
        let index = table.binary_search_by_key(&code.0, |(number, _)| *number).ok()?;
        table.get(index).map(|(_, page)| *page)
    };
    of(PAGES).or_else(|| of(KEPT))
}

/// `E0301`, `e0301` or `301`, as people type it.
pub fn parse_code(text: &str) -> Option<Code> {
    let digits = text.trim().trim_start_matches(['E', 'e']);
    (!digits.is_empty() && digits.len() <= 4 && digits.bytes().all(|digit| digit.is_ascii_digit()))
        .then(|| digits.parse().ok().map(Code))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::{PAGES, explain, parse_code};

    #[test]
    fn every_page_has_its_sections_in_order() {
        for (code, page) in PAGES {
            assert!(page.starts_with(&format!("# E{code:04}: ")), "E{code:04}");
            let mut at = 0;
            for section in
                ["## What\n", "## Why it matters\n", "## Example\n", "Wrong:\n", "Right:\n", "## What to do\n"]
            {
                let found = page[at..].find(section);
                at += found.unwrap_or_else(|| panic!("E{code:04} lacks {section:?} in its place"));
            }
        }
    }

    #[test]
    fn pages_are_found_and_listed_once() {
        assert!(PAGES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for written in ["E0301", "e0301", "301"] {
            assert!(parse_code(written).and_then(explain).is_some_and(|page| page.contains("unknown machine")));
        }
        assert!(parse_code("E0205").and_then(explain).is_some_and(|why| why.contains("one edition")));
        assert!(parse_code("E9999").and_then(explain).is_none());
        assert!(parse_code("shop").is_none() && parse_code("").is_none());
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_table() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/pages");
        let files = std::fs::read_dir(folder).expect("the folder of pages").count();
        assert_eq!(files, PAGES.len());
    }
}
