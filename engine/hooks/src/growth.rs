//! Holds the size of what a script builds up.
//!
//! The interpreter measures what a call returns or changes, but not what `m[k] = v` adds to `m`: an array of arrays or a
//! map of maps would grow to gigabytes, one permitted piece at a time. So the values in reach are measured every few
//! times that a variable is looked at.
//!
//! What is absent: a measure of what a loop adds to `this` without naming any variable; its operations hold it.

use crate::limits::{ARRAY_ELEMENTS_MAX, MAP_PROPERTIES_MAX, STRING_BYTES_MAX};
use rhai::{Dynamic, Engine, EvalAltResult, ImmutableString, Position};
use std::sync::atomic::{AtomicU32, Ordering};

/// Looks at variables between two measures. What is added in between is at most one full value for each.
const LOOKS: u32 = 64;

/// Measures from now on.
#[allow(deprecated, reason = "not deprecated: the interpreter marks what may change between its versions that way")]
pub(crate) fn hold(engine: &mut Engine) {
    let looks = AtomicU32::new(0);
    engine.on_var(move |_, _, context| {
        if looks.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOKS) {
            for (_, _, value) in context.scope().iter_raw() {
                measure(value)?;
            }
            context.this_ptr().map_or(Ok(()), measure)?;
        }
        Ok(None)
    });
}

#[derive(Default)]
struct Size {
    elements: usize,
    properties: usize,
    bytes: usize,
}

/// Everything inside counts, as the interpreter counts it where it does. Stops at the first limit.
fn measure(value: &Dynamic) -> Result<(), Box<EvalAltResult>> {
    let mut size = Size::default();
    // What a closure holds may be locked by the very call that is under way; its owner measures it.
    if value.is_shared() && value.is_locked() {
        return Ok(());
    }
    add(value, &mut size)
}

fn add(value: &Dynamic, size: &mut Size) -> Result<(), Box<EvalAltResult>> {
    if let Some(text) = value.read_lock::<ImmutableString>() {
        size.bytes += text.len();
    } else if let Ok(items) = value.as_array_ref() {
        size.elements += items.len();
        over(size)?;
        items.iter().try_for_each(|item| add(item, size))?;
    } else if let Ok(fields) = value.as_map_ref() {
        size.properties += fields.len();
        over(size)?;
        fields.values().try_for_each(|field| add(field, size))?;
    }
    over(size)
}

fn over(size: &Size) -> Result<(), Box<EvalAltResult>> {
    let what = if size.properties > MAP_PROPERTIES_MAX {
        "Size of object map"
    } else if size.elements > ARRAY_ELEMENTS_MAX {
        "Size of array"
    } else if size.bytes > STRING_BYTES_MAX {
        "Length of string"
    } else {
        return Ok(());
    };
    Err(EvalAltResult::ErrorDataTooLarge(what.to_owned(), Position::NONE).into())
}
