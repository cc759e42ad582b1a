//! A runsheet as a file that people review: its text, closed by a hash of every byte before it.
//!
//! The hash keeps nobody from writing another sheet with another hash; it tells a file that was edited, cut or damaged
//! after it was written, in which a single bit may mean another machine.

use crate::names::Hash;
use crate::sheet::{Runsheet, SheetError};

const OPEN: &str = ",\n  \"seal\": \"";
const CLOSE: &str = "\"\n}\n";

/// The text of a file with this sheet.
pub fn seal(sheet: &Runsheet) -> String {
    let text = sheet.to_json();
    let body = text.strip_suffix("\n}").unwrap_or(&text);
    format!("{body}{OPEN}{}{CLOSE}", Hash::of(body))
}

/// The sheet in such a file, when every byte is as it was written.
pub fn unseal(text: &str) -> Result<Runsheet, SheetError> {
    // What it is comes first: a file of another format is told so, whatever its seal.
    let sheet = Runsheet::from_json(text)?;
    let altered = |why: &str| SheetError::Altered(why.to_owned());
    let (body, rest) = text.rsplit_once(OPEN).ok_or_else(|| altered("its seal is missing (E0904)"))?;
    let hash = rest.strip_suffix(CLOSE).ok_or_else(|| altered("its seal is damaged (E0904)"))?;
    if hash == Hash::of(body).0 {
        return Ok(sheet);
    }
    Err(altered(&match sheet.tampered_hooks().first() {
        Some(hook) => format!("the text of hook `{hook}` is not the one it was approved with (E0905)"),
        None => "its seal is of another text; it was changed by hand, or damaged on the way (E0904)".to_owned(),
    }))
}
