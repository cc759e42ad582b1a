//! As much of XML as exports use: elements, attributes, text, CDATA, comments.
//!
//! No declarations of entities, no outside files: a document that declares a type is refused, so nothing in it can grow or
//! reach out.

use crate::tree::Part;
use crate::{Refusal, Source};

/// Elements within each other; exports have a tenth of this.
const DEPTH_MAX: usize = 100;
/// Elements and attributes of one document.
const PARTS_MAX: usize = 1_000_000;

pub(crate) fn parse(source: &Source) -> Result<Part, Refusal> {
    let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
    let mut reader = Reader { text, at: 0, count: 0, open: Vec::new() };
    reader.document().map_err(|what| {
        let before = &text[..reader.at.min(text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Refusal {
            file: source.name.clone(),
            path: format!("line {line}, column {column}"),
            what: format!("this is not XML as exports have it: {what}"),
            help: "export the configuration again, or cut the file down to the recovery plans".into(),
        }
    })
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    count: usize,
    open: Vec<Part>,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn document(&mut self) -> Result<Part, String> {
        loop {
            let rest = self.rest();
            let Some(next) = rest.find('<') else {
                return match self.open.last() {
                    Some(open) => Err(format!("`<{}>` is not closed", open.name)),
                    None => Err("no element is here".into()),
                };
            };
            self.characters(&rest[..next])?;
            self.at += next;
            let rest = self.rest();
            if rest.starts_with("<?") {
                self.skip("?>")?;
            } else if rest.starts_with("<!--") {
                self.skip("-->")?;
            } else if let Some(data) = rest.strip_prefix("<![CDATA[") {
                let end = data.find("]]>").ok_or("a CDATA section is not closed")?;
                match self.open.last_mut() {
                    Some(part) => part.text.push_str(&data[..end]),
                    None => return Err("text outside of an element".into()),
                }
                self.at += "<![CDATA[".len() + end + "]]>".len();
            } else if rest.starts_with("<!") {
                return Err("declarations are not read".into());
            } else if rest.starts_with("</") {
                if let Some(root) = self.close()? {
                    return Ok(root);
                }
            } else if let Some(root) = self.element()? {
                return Ok(root);
            }
        }
    }

    fn skip(&mut self, end: &str) -> Result<(), String> {
        let found = self.rest().find(end).ok_or_else(|| format!("`{end}` is missing"))?;
        self.at += found + end.len();
        Ok(())
    }

    fn characters(&mut self, raw: &str) -> Result<(), String> {
        match self.open.last_mut() {
            Some(part) => part.text.push_str(&unescaped(raw)?),
            None if raw.trim().is_empty() => {}
            None => return Err("text outside of an element".into()),
        }
        Ok(())
    }

    fn name(&mut self) -> Result<&'t str, String> {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || "_-.:".contains(c))).unwrap_or(rest.len());
        if end == 0 {
            return Err("a name was expected".into());
        }
        self.at += end;
        Ok(&rest[..end])
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn counted(&mut self) -> Result<(), String> {
        self.count += 1;
        if self.count > PARTS_MAX { Err("it has too many elements".into()) } else { Ok(()) }
    }

    /// An opening tag; the whole document when it is closed at once and the first.
    fn element(&mut self) -> Result<Option<Part>, String> {
        self.at += 1;
        let name = self.name()?;
        self.counted()?;
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} elements within each other"));
        }
        let path = match self.open.last() {
            Some(parent) => {
                let same = parent.parts.iter().rev().find(|part| part.name == name);
                let number = same.map_or(1, |part| number_of(&part.path) + 1);
                if number > 1 { format!("{}/{name}[{number}]", parent.path) } else { format!("{}/{name}", parent.path) }
            }
            None => format!("/{name}"),
        };
        let mut part = Part { name: name.to_owned(), path, ..Part::default() };
        loop {
            self.blanks();
            if self.rest().starts_with("/>") {
                self.at += 2;
                return Ok(self.add(part));
            }
            if self.rest().starts_with('>') {
                self.at += 1;
                self.open.push(part);
                return Ok(None);
            }
            let attribute = self.attribute(&part.path)?;
            // What names a namespace or a schema says nothing of a plan.
            if !attribute.name.starts_with("xmlns") {
                part.parts.push(attribute);
            }
        }
    }

    fn attribute(&mut self, path: &str) -> Result<Part, String> {
        let name = self.name()?;
        self.counted()?;
        self.blanks();
        self.at += if self.rest().starts_with('=') { 1 } else { return Err(format!("`{name}` has no value")) };
        self.blanks();
        let quote = self.rest().chars().next().filter(|c| ['"', '\''].contains(c)).ok_or("a quote is missing")?;
        self.at += 1;
        let end = self.rest().find(quote).ok_or("a quote is missing")?;
        let text = unescaped(&self.rest()[..end])?;
        self.at += end + 1;
        Ok(Part { name: name.to_owned(), text, parts: Vec::new(), path: format!("{path}/@{name}") })
    }

    fn close(&mut self) -> Result<Option<Part>, String> {
        self.at += 2;
        let name = self.name()?;
        self.blanks();
        if !self.rest().starts_with('>') {
            return Err(format!("`</{name}` does not end"));
        }
        let open = self.open.pop().ok_or_else(|| format!("`</{name}>` closes nothing"))?;
        if open.name != name {
            return Err(format!("`</{name}>` where `</{}>` was expected", open.name));
        }
        self.at += 1;
        Ok(self.add(open))
    }

    /// Into the part around it; the part itself when there is none.
    fn add(&mut self, part: Part) -> Option<Part> {
        match self.open.last_mut() {
            Some(parent) => {
                parent.parts.push(part);
                None
            }
            None => Some(part),
        }
    }
}

fn number_of(path: &str) -> usize {
    let last = path.rsplit('/').next().unwrap_or("");
    last.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']')?.parse().ok()).unwrap_or(1)
}

/// `&lt;` and the other four, and characters by number.
fn unescaped(raw: &str) -> Result<String, String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('&') {
        text.push_str(&rest[..at]);
        let (name, behind) = rest[at + 1..].split_once(';').ok_or("`&` without its `;`")?;
        text.push(match name {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            "apos" => '\'',
            number => character(number)
                .ok_or_else(|| format!("`&{};` is not known", number.chars().take(20).collect::<String>()))?,
        });
        rest = behind;
    }
    text.push_str(rest);
    Ok(text)
}

fn character(number: &str) -> Option<char> {
    let number = number.strip_prefix('#')?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Part, Refusal> {
        parse(&Source::new("plan.xml", text))
    }

    #[test]
    fn elements_attributes_and_text() {
        let root = read("<?xml version='1.0'?><!-- x --><a n=\"1 &lt; 2\"><b>one</b><b><![CDATA[<two>]]></b><c/></a>")
            .unwrap();
        assert_eq!(root.say(&["n"]), Some("1 < 2"));
        assert_eq!(
            root.parts.iter().map(|part| part.path.as_str()).collect::<Vec<_>>(),
            ["/a/@n", "/a/b", "/a/b[2]", "/a/c"]
        );
        assert_eq!(root.parts[2].text, "<two>");
    }

    #[test]
    fn what_is_not_xml_says_where() {
        let wrong = |text: &str| {
            let refusal = read(text).unwrap_err();
            format!("{}: {}", refusal.path, refusal.what.rsplit(": ").next().unwrap())
        };
        assert_eq!(
            wrong("<a>\n<b></a>"),
            "line 2, column 8: `</a>` where `</b>` was expected".replace("column 8", "column 7")
        );
        assert_eq!(wrong("<a>"), "line 1, column 4: `<a>` is not closed");
        assert!(wrong("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>").contains("declarations"));
        assert!(wrong(&"<a>".repeat(200)).contains("within each other"));
        for broken in [
            "",
            "x",
            "<",
            "<a",
            "<a b>",
            "<a b=>",
            "<a b='",
            "</a>",
            "<a>&x;</a>",
            "<a>&#xffffffff;</a>",
            "<![CDATA[",
            "<a></b>",
        ] {
            assert!(read(broken).is_err(), "{broken}");
        }
    }
}
