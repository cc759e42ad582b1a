//! The few functions of ARM template expressions that names and ids are made with.
//!
//! Not an evaluator of templates: what is not among them stays as it is written, and is noted.

use serde_json::Value;
use std::collections::BTreeMap;

/// Parameters and variables within each other; deeper is a loop.
const DEPTH_MAX: usize = 32;
/// Function calls of one document: a template that needs more builds texts out of texts without end.
const CALLS_MAX: usize = 20_000;
/// Bytes of one text that an expression gives.
const TEXT_BYTES_MAX: usize = 1 << 16;

/// What `parameters(…)` and `variables(…)` mean.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    pub parameters: BTreeMap<String, Value>,
    pub variables: BTreeMap<String, Value>,
    calls: std::cell::Cell<usize>,
}

impl Scope {
    /// The value of `[…]`, or why it has none.
    pub(crate) fn evaluate(&self, text: &str) -> Result<Value, String> {
        self.evaluate_at(text, 0)
    }

    fn evaluate_at(&self, text: &str, depth: usize) -> Result<Value, String> {
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let mut reader = Reader { scope: self, rest: inner, depth };
        let value = reader.value()?;
        match reader.rest.trim().is_empty() {
            true => Ok(value),
            false => Err(format!("`{}` is not understood", short(reader.rest))),
        }
    }

    /// Expressions within the value of a parameter or a variable.
    fn resolved(&self, value: &Value, depth: usize) -> Result<Value, String> {
        match value {
            Value::String(text) if is_expression(text) => self.evaluate_at(text, depth + 1),
            Value::Array(items) => {
                items.iter().map(|item| self.resolved(item, depth)).collect::<Result<_, _>>().map(Value::Array)
            }
            Value::Object(members) => {
                let members = members.iter().map(|(key, value)| Ok((key.clone(), self.resolved(value, depth)?)));
                members.collect::<Result<_, String>>().map(Value::Object)
            }
            plain => Ok(plain.clone()),
        }
    }

    fn count(&self) -> Result<(), String> {
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() > CALLS_MAX { Err("the template is too large to work out".into()) } else { Ok(()) }
    }
}

pub(crate) fn is_expression(text: &str) -> bool {
    text.starts_with('[') && !text.starts_with("[[") && text.ends_with(']')
}

fn short(text: &str) -> String {
    text.trim().chars().take(40).collect()
}

struct Reader<'s, 't> {
    scope: &'s Scope,
    rest: &'t str,
    depth: usize,
}

impl Reader<'_, '_> {
    fn value(&mut self) -> Result<Value, String> {
        self.scope.count()?;
        if self.depth > DEPTH_MAX {
            return Err("its parts are within each other without end".into());
        }
        self.rest = self.rest.trim_start();
        let mut value = match self.rest.chars().next() {
            Some('\'') => Value::String(self.literal()?),
            Some(c) if c.is_ascii_digit() || c == '-' => self.number()?,
            Some(c) if c.is_ascii_alphabetic() => self.call()?,
            _ => return Err(format!("`{}` is not understood", short(self.rest))),
        };
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix('.') {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
                let (name, rest) = rest.split_at(end);
                value = value.get(name).cloned().ok_or_else(|| format!("there is no `.{name}` here"))?;
                self.rest = rest;
            } else if let Some(rest) = self.rest.strip_prefix('[') {
                self.rest = rest;
                self.depth += 1;
                let index = self.value()?;
                self.depth -= 1;
                self.expect(']')?;
                let found = match &index {
                    Value::String(name) => value.get(name),
                    Value::Number(number) => number.as_u64().and_then(|at| value.get(usize::try_from(at).ok()?)),
                    _ => None,
                };
                value = found.cloned().ok_or("there is no such element")?;
            } else {
                return Ok(value);
            }
        }
    }

    fn expect(&mut self, mark: char) -> Result<(), String> {
        self.rest = self.rest.trim_start();
        self.rest = self.rest.strip_prefix(mark).ok_or_else(|| format!("`{mark}` is missing"))?;
        Ok(())
    }

    /// `'it''s'`: a quote is written twice.
    fn literal(&mut self) -> Result<String, String> {
        let mut text = String::new();
        let mut characters = self.rest.char_indices().skip(1).peekable();
        while let Some((at, character)) = characters.next() {
            if character != '\'' {
                text.push(character);
            } else if characters.peek().is_some_and(|(_, next)| *next == '\'') {
                text.push('\'');
                characters.next();
            } else {
                self.rest = &self.rest[at + 1..];
                return Ok(text);
            }
        }
        Err("a text is not closed".into())
    }

    fn number(&mut self) -> Result<Value, String> {
        let end = self.rest[1..].find(|c: char| !c.is_ascii_digit()).map_or(self.rest.len(), |at| at + 1);
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        number.parse::<i64>().map(Value::from).map_err(|_| format!("`{}` is not a number", short(number)))
    }

    fn call(&mut self) -> Result<Value, String> {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.expect('(').map_err(|_| format!("`{}` is not understood", short(name)))?;
        let mut arguments = Vec::new();
        self.rest = self.rest.trim_start();
        while !self.rest.starts_with(')') {
            if !arguments.is_empty() {
                self.expect(',')?;
            }
            self.depth += 1;
            arguments.push(self.value()?);
            self.depth -= 1;
            self.rest = self.rest.trim_start();
        }
        self.expect(')')?;
        self.apply(name, &arguments)
    }

    fn apply(&self, name: &str, arguments: &[Value]) -> Result<Value, String> {
        let all = || arguments.iter().map(plain).collect::<Result<Vec<String>, String>>();
        let text = |text: String| match text.len() > TEXT_BYTES_MAX {
            true => Err("it gives a text that is too long".to_owned()),
            false => Ok(Value::String(text)),
        };
        match (name.to_ascii_lowercase().as_str(), arguments) {
            ("parameters", [Value::String(key)]) => self.named(&self.scope.parameters, key, "parameter"),
            ("variables", [Value::String(key)]) => self.named(&self.scope.variables, key, "variable"),
            ("concat", _) if arguments.iter().all(Value::is_array) => {
                Ok(Value::Array(arguments.iter().filter_map(Value::as_array).flatten().cloned().collect()))
            }
            ("concat", _) => text(all()?.concat()),
            ("format", [Value::String(form), rest @ ..]) => {
                let rest = rest.iter().map(plain).collect::<Result<Vec<_>, _>>()?;
                let filled = |form: String, (at, value): (usize, &String)| form.replace(&format!("{{{at}}}"), value);
                text(rest.iter().enumerate().fold(form.clone(), filled))
            }
            ("tolower", [value]) => text(plain(value)?.to_lowercase()),
            ("toupper", [value]) => text(plain(value)?.to_uppercase()),
            ("string", [value]) => text(plain(value)?),
            ("int", [value]) => plain(value)?.parse::<i64>().map(Value::from).map_err(|_| "not a number".to_owned()),
            ("createarray", items) => Ok(Value::Array(items.to_vec())),
            ("true", []) => Ok(Value::Bool(true)),
            ("false", []) => Ok(Value::Bool(false)),
            ("null", []) => Ok(Value::Null),
            ("resourceid" | "subscriptionresourceid" | "tenantresourceid", _) => text(resource_id(&all()?)),
            ("extensionresourceid", [first, rest @ ..]) => {
                let rest = rest.iter().map(plain).collect::<Result<Vec<_>, _>>()?;
                text(format!("{}{}", plain(first)?, resource_id(&rest)))
            }
            _ => Err(format!("`{name}(…)` is not worked out here")),
        }
    }

    fn named(&self, all: &BTreeMap<String, Value>, key: &str, what: &str) -> Result<Value, String> {
        let found = all
            .get(key)
            .or_else(|| all.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value));
        let value = found.ok_or_else(|| format!("the {what} `{key}` has no value: give its parameter file too"))?;
        self.scope.resolved(value, self.depth)
    }
}

fn plain(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        other => Err(format!("{} where a text is wanted", crate::json::kind(other))),
    }
}

/// `resourceId('A/b/c', 'x', 'y')` is `/providers/A/b/x/c/y`; parts before the type name subscription and group.
fn resource_id(parts: &[String]) -> String {
    let Some(at) = parts.iter().position(|part| part.contains('/') && part.contains('.')) else {
        return format!("/{}", parts.join("/"));
    };
    let mut words = parts[at].split('/');
    let mut id = format!("/providers/{}", words.next().unwrap_or(""));
    let mut names = parts[at + 1..].iter();
    for word in words {
        id.push('/');
        id.push_str(word);
        if let Some(name) = names.next() {
            id.push('/');
            id.push_str(name);
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            parameters: BTreeMap::from([
                ("vault".into(), "contoso".into()),
                ("ids".into(), serde_json::json!(["a", "b"])),
            ]),
            variables: BTreeMap::from([
                ("fabric".into(), "[concat(parameters('vault'), '-fabric')]".into()),
                ("loop".into(), "[variables('loop')]".into()),
            ]),
            ..Scope::default()
        }
    }

    #[test]
    fn names_and_ids_are_worked_out() {
        let value = |text: &str| scope().evaluate(text).unwrap();
        assert_eq!(value("[variables('fabric')]"), "contoso-fabric");
        assert_eq!(value("[format('{0}/{1}', parameters('vault'), 'it''s')]"), "contoso/it's");
        assert_eq!(value("[parameters('ids')[1]]"), "b");
        let id = value("[resourceId('Microsoft.RecoveryServices/vaults/replicationFabrics', 'v', 'f')]");
        assert_eq!(id, "/providers/Microsoft.RecoveryServices/vaults/v/replicationFabrics/f");
    }

    #[test]
    fn what_is_not_worked_out_says_why() {
        let wrong = |text: &str| scope().evaluate(text).unwrap_err();
        assert!(wrong("[parameters('other')]").contains("has no value"));
        assert!(wrong("[variables('loop')]").contains("without end"));
        assert!(wrong("[reference('x')]").contains("reference"));
        for broken in
            ["[", "[]", "[concat(", "['x]", "[1x]", "[parameters('ids')[9]]", "[a.b]", "[concat('a' 'b')]", "[-]"]
        {
            assert!(scope().evaluate(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_text_that_doubles_for_ever_ends() {
        let mut scope = Scope::default();
        scope.variables.insert("v0".into(), "x".repeat(64).into());
        for number in 1..30 {
            let before = number - 1;
            scope.variables.insert(
                format!("v{number}"),
                format!("[concat(variables('v{before}'), variables('v{before}'))]").into(),
            );
        }
        assert!(scope.evaluate("[variables('v29')]").is_err());
    }
}
