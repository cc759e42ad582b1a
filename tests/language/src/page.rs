//! A Markdown page in sections and blocks; it can be written again with other blocks.

/// A fenced block that is a file of an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// `shop.plan`, `hooks/dns.rhai`, `inventory.json`.
    pub file: String,
    /// Shows what `--fix` makes of the file, instead of being one.
    pub fixed: bool,
    /// The text between the fences, its messages included.
    pub text: String,
    /// Index of its first line in the page; the fence is above it.
    first: usize,
    /// Index of the closing fence.
    end: usize,
}

impl Block {
    /// What begins a comment in this file.
    pub fn comment(&self) -> &'static str {
        if self.file.ends_with(".plan") { "#" } else { "//" }
    }
}

/// One idea: a heading, prose, and the files of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The words of the `##` line; empty for what stands above the first.
    pub title: String,
    /// The prose, without blocks.
    pub prose: String,
    /// The files, in the order of the page.
    pub blocks: Vec<Block>,
}

/// One Markdown file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// `words.md`.
    pub name: String,
    lines: Vec<String>,
    /// The first is what stands above the first `##`.
    pub sections: Vec<Section>,
}

/// Languages whose blocks are files of an example; `text` and `sh` are for reading only.
const LANGUAGES: [&str; 4] = ["plan", "json", "rust", "pem"];

impl Page {
    /// Reads a page; an unclosed fence ends with the page.
    pub fn read(name: &str, text: &str) -> Self {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut sections = vec![Section { title: String::new(), prose: String::new(), blocks: Vec::new() }];
        let mut at = 0;
        while let Some(line) = lines.get(at) {
            let last = sections.len() - 1;
            if let Some(title) = line.strip_prefix("## ") {
                sections.push(Section { title: title.to_owned(), prose: String::new(), blocks: Vec::new() });
            } else if let Some(info) = line.strip_prefix("```") {
                let end = (at + 1..lines.len()).find(|index| lines[*index] == "```").unwrap_or(lines.len());
                if let Some(block) = block(info, at + 1, end, &lines) {
                    sections[last].blocks.push(block);
                }
                at = end;
            } else {
                sections[last].prose.push_str(line);
                sections[last].prose.push('\n');
            }
            at += 1;
        }
        Self { name: name.to_owned(), lines, sections }
    }

    /// The page with other texts in its blocks, in their order.
    pub fn with(&self, texts: &[String]) -> String {
        let mut lines = self.lines.clone();
        let blocks: Vec<&Block> = self.sections.iter().flat_map(|section| &section.blocks).collect();
        for (block, text) in blocks.iter().zip(texts).rev() {
            lines.splice(block.first..block.end, text.lines().map(str::to_owned));
        }
        lines.join("\n") + "\n"
    }
}

fn block(info: &str, first: usize, end: usize, lines: &[String]) -> Option<Block> {
    let mut words = info.split_whitespace();
    let language = words.next()?;
    if !LANGUAGES.contains(&language) {
        return None;
    }
    let mut file = "case.plan".to_owned();
    let mut fixed = false;
    for word in words {
        match word {
            "fixed" => fixed = true,
            name => file = name.to_owned(),
        }
    }
    let text = lines[first..end].iter().map(|line| format!("{line}\n")).collect();
    Some(Block { file, fixed, text, first, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_can_be_written_again() {
        let text = "# Words\n\n```plan sites.plan\na\n```\n\n## One\n\nProse.\n\n```plan\nb\n```\n\n```text\nc\n```\n";
        let page = Page::read("words.md", text);
        let titles: Vec<&str> = page.sections.iter().map(|section| section.title.as_str()).collect();
        assert_eq!(titles, ["", "One"]);
        assert_eq!(page.sections[0].blocks[0].file, "sites.plan");
        assert_eq!(page.sections[1].blocks[0].file, "case.plan");
        assert_eq!(page.sections[1].prose, "\nProse.\n\n\n");
        assert_eq!(page.with(&["a\n".into(), "b\n".into()]), text);
        assert_eq!(page.with(&["a\n".into(), "b\nx\n".into()]), text.replace("b\n", "b\nx\n"));
    }
}
