//! XML and JSON as one kind of tree: named parts with text and parts of their own. Names are compared by their letters and
//! digits alone: `pre_power_on_steps`, `prePowerOnSteps` and `PrePowerOnSteps` are one.

use serde_json::Value;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// As written.
    pub name: String,
    pub text: String,
    pub parts: Vec<Part>,
    /// Its place: `/recoveryPlans/recoveryPlan[2]/name`, `$.list[1].name`.
    pub path: String,
}

/// `prepoweronsteps`.
pub(crate) fn plain(name: &str) -> String {
    let name = name.rsplit(':').next().unwrap_or(name);
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

impl Part {
    pub(crate) fn is(&self, names: &[&str]) -> bool {
        names.contains(&plain(&self.name).as_str())
    }
    /// The first part with one of these names.
    pub(crate) fn get(&self, names: &[&str]) -> Option<&Part> {
        names.iter().find_map(|name| self.parts.iter().find(|part| plain(&part.name) == *name))
    }
    /// The text of such a part.
    pub(crate) fn say(&self, names: &[&str]) -> Option<&str> {
        self.get(names).and_then(Part::word)
    }
    /// Its own text, or that of its `name`.
    pub(crate) fn word(&self) -> Option<&str> {
        let own = self.text.trim();
        if !own.is_empty() {
            return Some(own);
        }
        let named = self.parts.iter().find(|part| ["name", "value"].contains(&plain(&part.name).as_str()))?;
        Some(named.text.trim()).filter(|text| !text.is_empty())
    }
    /// Everything below with one of these names, outermost first; not within each other.
    pub(crate) fn all<'p>(&'p self, names: &[&str], into: &mut Vec<&'p Part>) {
        for part in &self.parts {
            if part.is(names) && !part.is_list_of(names) {
                into.push(part);
            } else {
                part.all(names, into);
            }
        }
    }
    /// `vms` in XML may hold `vms` in JSON style: a wrapper of nothing but its like is a list, not an element.
    fn is_list_of(&self, names: &[&str]) -> bool {
        !self.parts.is_empty() && self.text.trim().is_empty() && self.parts.iter().all(|part| part.is(names))
    }
    /// The elements of such a list: parts of parts, whatever the elements are called.
    pub(crate) fn items(&self, names: &[&str]) -> Vec<&Part> {
        let lists = self.parts.iter().filter(|part| part.is(names));
        lists
            .flat_map(|list| {
                if list.parts.is_empty() || list.get(&["name", "id"]).is_some() {
                    vec![list]
                } else {
                    list.parts.iter().collect()
                }
            })
            .filter(|item| !(item.text.trim().is_empty() && item.parts.is_empty()))
            .collect()
    }
}

/// JSON as such a tree: elements of a list are called as the list is. Nesting is limited by its reader.
pub(crate) fn of_json(name: &str, value: &Value, path: String) -> Part {
    let mut part = Part { name: name.to_owned(), path: path.clone(), ..Part::default() };
    match value {
        Value::Null => {}
        Value::Bool(value) => part.text = value.to_string(),
        Value::Number(value) => part.text = value.to_string(),
        Value::String(text) => part.text.clone_from(text),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            part.parts = items.map(|(at, item)| of_json(name, item, format!("{path}[{at}]"))).collect();
        }
        Value::Object(members) => {
            part.parts = members.iter().map(|(key, value)| of_json(key, value, format!("{path}.{key}"))).collect();
        }
    }
    part
}

/// `300`, `00:05:00`, `PT5M`, in seconds.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    if let Some(iso) = text.strip_prefix("PT") {
        return iso_time(iso);
    }
    let parts: Vec<u64> = text.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    match parts.as_slice() {
        [hours, minutes, seconds] if *minutes < 60 && *seconds < 60 => {
            hours.checked_mul(3600)?.checked_add(minutes * 60 + seconds)
        }
        _ => None,
    }
}

fn iso_time(text: &str) -> Option<u64> {
    let (mut total, mut number) = (0u64, String::new());
    for character in text.chars() {
        if character.is_ascii_digit() {
            number.push(character);
            continue;
        }
        let unit = match character {
            'H' => 3600,
            'M' => 60,
            'S' => 1,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    number.is_empty().then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_way() {
        assert_eq!(seconds("300"), Some(300));
        assert_eq!(seconds("00:05:00"), Some(300));
        assert_eq!(seconds("PT1H5M"), Some(3900));
        for wrong in ["soon", "5:00", "PT5", "PTM", "99999999999999999999", "1:99:00", "-1"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_are_letters_and_digits() {
        assert_eq!(plain("ns2:pre_power-on_Steps"), "prepoweronsteps");
    }
}
