//! Numbers with units: reading them, and saying what was meant by the wrong ones.

use crate::value::Value;
use muster_diagnostics::{Applicability, Diagnostic, Span};
use muster_runsheet::units::{DURATION_UNITS, RATE_UNITS, SIZE_UNITS};
use muster_runsheet::{Duration, Rate, Size};
use muster_syntax::ast::QuantityPart;

/// Spellings people bring along, and the right ones.
const WRONG_UNITS: [(&str, &[&str]); 30] = [
    ("sec", &["s"]),
    ("secs", &["s"]),
    ("second", &["s"]),
    ("seconds", &["s"]),
    ("min", &["m"]),
    ("mins", &["m"]),
    ("minute", &["m"]),
    ("minutes", &["m"]),
    ("hr", &["h"]),
    ("hrs", &["h"]),
    ("hour", &["h"]),
    ("hours", &["h"]),
    ("day", &["d"]),
    ("days", &["d"]),
    ("week", &["w"]),
    ("weeks", &["w"]),
    ("k", &["kB", "KiB", "kbit/s"]),
    ("K", &["kB", "KiB", "kbit/s"]),
    ("M", &["MB", "MiB", "Mbit/s"]),
    ("G", &["GB", "GiB", "Gbit/s"]),
    ("g", &["GB", "GiB", "Gbit/s"]),
    ("T", &["TB", "TiB"]),
    ("KB", &["kB", "KiB"]),
    ("Mb", &["MB", "Mbit/s"]),
    ("Gb", &["GB", "Gbit/s"]),
    ("Mbps", &["Mbit/s"]),
    ("Gbps", &["Gbit/s"]),
    ("kbps", &["kbit/s"]),
    ("MBps", &["MB/s"]),
    ("GBps", &["GB/s"]),
];

#[derive(Clone, Copy, PartialEq)]
enum Family {
    Duration,
    Size,
    Rate,
    Percent,
}

fn unit(word: &str) -> Option<(Family, u64)> {
    let find = |units: &[(&str, u64)]| units.iter().find(|(unit, _)| *unit == word).map(|(_, factor)| *factor);
    if word == "%" {
        return Some((Family::Percent, 1));
    }
    find(&DURATION_UNITS)
        .map(|factor| (Family::Duration, factor))
        .or_else(|| find(&SIZE_UNITS).map(|factor| (Family::Size, factor)))
        .or_else(|| find(&RATE_UNITS).map(|factor| (Family::Rate, factor)))
}

/// Reads `1h30m`, `40GiB`, `2.5MB/s`. A quantity that is no quantity is an E0212.
pub(crate) fn read(parts: &[QuantityPart], span: Span) -> Result<Value, Box<Diagnostic>> {
    let mut family = None;
    let mut total: u64 = 0;
    for part in parts {
        let (of, factor) = unit(&part.unit.text).ok_or_else(|| unknown_unit(part))?;
        if *family.get_or_insert(of) != of {
            return Err(Box::new(Diagnostic::error(
                212,
                "units of different kinds in one quantity",
                span,
                "mixed units",
            )));
        }
        total =
            scaled(&part.number, factor).and_then(|value| total.checked_add(value)).ok_or_else(|| not_whole(part))?;
    }
    Ok(match family {
        Some(Family::Duration) => Value::Duration(Duration(total)),
        Some(Family::Size) => Value::Size(Size(total)),
        Some(Family::Rate) => Value::Rate(Rate(total)),
        Some(Family::Percent) => Value::Percent(total),
        None => return Err(Box::new(Diagnostic::error(212, "a quantity without a number", span, "nothing here"))),
    })
}

/// `number` × `factor`, when that is a whole number that fits.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let value = digits.checked_mul(u128::from(factor))?;
    if value % scale != 0 {
        return None;
    }
    u64::try_from(value / scale).ok()
}

fn not_whole(part: &QuantityPart) -> Box<Diagnostic> {
    let written = format!("{}{}", part.number, part.unit.text);
    Box::new(
        Diagnostic::error(
            212,
            format!("`{written}` is out of range"),
            part.number_span.to(part.unit.span),
            "cannot be held",
        )
        .note("quantities are whole numbers of milliseconds, bytes or bits per second, below 2^64")
        .help("write it in a smaller unit, or write a smaller number"),
    )
}

fn unknown_unit(part: &QuantityPart) -> Box<Diagnostic> {
    let (word, number) = (part.unit.text.as_str(), part.number.as_str());
    let span = part.number_span.to(part.unit.span);
    let diagnostic = Diagnostic::error(212, format!("`{word}` is not a unit"), part.unit.span, "unknown unit");
    let guesses: &[&str] = WRONG_UNITS.iter().find(|(wrong, _)| *wrong == word).map_or(&[], |(_, right)| right);
    Box::new(match guesses {
        [] => {
            let known = DURATION_UNITS.iter().chain(&SIZE_UNITS).chain(&RATE_UNITS).map(|(unit, _)| *unit);
            match crate::suggest::nearest(word, known) {
                Some(unit) => diagnostic.help(format!("did you mean `{number}{unit}`?")).fix(
                    part.unit.span,
                    unit,
                    Applicability::Maybe,
                ),
                None => diagnostic.help("times are in `ms s m h d w`, sizes end in `B`, rates end in `/s`"),
            }
        }
        [one] => diagnostic.help(format!("write `{number}{one}`")).fix(
            span,
            format!("{number}{one}"),
            Applicability::Certain,
        ),
        many => {
            let choices: Vec<String> = many.iter().map(|unit| format!("`{number}{unit}`")).collect();
            let (last, head) = choices.split_last().map_or(("", &[][..]), |(last, head)| (last.as_str(), head));
            diagnostic.help(format!("{} or {last}?", head.join(", ")))
        }
    })
}
