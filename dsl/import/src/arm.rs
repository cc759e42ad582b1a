//! From documents to resources: templates with their expressions worked out, single resources, and lists of them.

use crate::expression::{Scope, is_expression};
use crate::json::{At, kind, last_segment, parse};
use crate::{Notes, Refusal, Source};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One resource of any kind, with what stands in it worked out.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// `replicationrecoveryplans`: the last word of its type, in lower case.
    pub kind: String,
    pub name: String,
    pub id: String,
    pub value: Value,
    pub file: String,
    pub path: String,
}

impl Resource {
    pub(crate) fn at(&self) -> At<'_> {
        At { value: &self.value, file: &self.file, path: self.path.clone() }
    }
    pub(crate) fn properties(&self) -> At<'_> {
        self.at().get("properties")
    }
}

/// Resources within resources, and templates within deployments.
const DEPTH_MAX: usize = 8;
/// Resources of all documents; a vault holds a tenth of this.
const RESOURCES_MAX: usize = 100_000;

/// All resources of all documents. Parameter files among them fill in the templates.
pub(crate) fn resources(sources: &[Source], notes: &mut Notes) -> Result<Vec<Resource>, Refusal> {
    let mut documents = Vec::new();
    let mut given: BTreeMap<String, Value> = BTreeMap::new();
    for source in sources {
        let value = parse(source)?;
        if is_parameter_file(&value) {
            let parameters = value.get("parameters").and_then(Value::as_object);
            for (name, parameter) in parameters.into_iter().flatten() {
                match parameter.get("value") {
                    Some(value) => drop(given.insert(name.clone(), value.clone())),
                    None => notes.add(
                        &source.name,
                        &format!("$.parameters.{name}"),
                        "its value is kept elsewhere; not known here",
                    ),
                }
            }
        } else {
            documents.push((source, value));
        }
    }
    let mut found = Vec::new();
    for (source, value) in &documents {
        let before = found.len();
        let mut reader = Finder { file: &source.name, given: &given, notes, found: &mut found };
        reader.document(value, "$", 0);
        if found.len() == before {
            return Err(Refusal {
                file: source.name.clone(),
                path: "$".into(),
                what: format!(
                    "a template, a resource or a list of resources was expected, this is {}",
                    kind_of_document(value)
                ),
                help: "export the recovery plan as an ARM template, or save the answer of \
                       `GET …/vaults/NAME/replicationRecoveryPlans`"
                    .into(),
            });
        }
    }
    Ok(found)
}

fn is_parameter_file(value: &Value) -> bool {
    let schema = value.get("$schema").and_then(Value::as_str).unwrap_or("").to_ascii_lowercase();
    schema.contains("deploymentparameters.json")
}

fn kind_of_document(value: &Value) -> &'static str {
    match value {
        Value::Object(members) if members.contains_key("resources") => "a template without resources",
        Value::Object(members) if members.contains_key("value") => "an empty list",
        Value::Object(_) => "an object of another kind",
        other => kind(other),
    }
}

struct Finder<'a> {
    file: &'a str,
    given: &'a BTreeMap<String, Value>,
    notes: &'a mut Notes,
    found: &'a mut Vec<Resource>,
}

impl Finder<'_> {
    fn document(&mut self, value: &Value, path: &str, depth: usize) {
        match value {
            Value::Array(items) => self.all(items, path, depth),
            Value::Object(members) if members.contains_key("resources") && !members.contains_key("type") => {
                self.template(value, path, depth);
            }
            Value::Object(members) => match members.get("value") {
                Some(Value::Array(items)) => {
                    if members.get("nextLink").is_some_and(|link| link.as_str().is_some_and(|link| !link.is_empty())) {
                        let text = "there are further pages behind this link: export them too";
                        self.notes.add(self.file, &format!("{path}.nextLink"), text);
                    }
                    self.all(items, &format!("{path}.value"), depth);
                }
                _ => self.resource(value, path, "", depth, &Scope::default()),
            },
            _ => {}
        }
    }

    fn all(&mut self, items: &[Value], path: &str, depth: usize) {
        for (index, item) in items.iter().enumerate().filter(|_| depth < DEPTH_MAX) {
            self.document(item, &format!("{path}[{index}]"), depth + 1);
        }
    }

    fn template(&mut self, template: &Value, path: &str, depth: usize) {
        let mut scope = Scope::default();
        for (name, parameter) in template.get("parameters").and_then(Value::as_object).into_iter().flatten() {
            match self.given.get(name).or_else(|| parameter.get("defaultValue")) {
                Some(value) => drop(scope.parameters.insert(name.clone(), value.clone())),
                None => self.notes.add(
                    self.file,
                    &format!("{path}.parameters.{name}"),
                    "it has no default and no parameter file names it: its name stands in its place",
                ),
            }
        }
        let variables = template.get("variables").and_then(Value::as_object).into_iter().flatten();
        scope.variables = variables.map(|(name, value)| (name.clone(), value.clone())).collect();
        self.resources(template.get("resources"), &format!("{path}.resources"), "", depth, &scope);
    }

    /// A list, or by symbolic names an object.
    fn resources(&mut self, resources: Option<&Value>, path: &str, within: &str, depth: usize, scope: &Scope) {
        if depth >= DEPTH_MAX {
            return;
        }
        match resources {
            Some(Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.resource(item, &format!("{path}[{index}]"), within, depth, scope);
                }
            }
            Some(Value::Object(items)) => {
                for (name, item) in items {
                    self.resource(item, &format!("{path}.{name}"), within, depth, scope);
                }
            }
            _ => {}
        }
    }

    fn resource(&mut self, value: &Value, path: &str, within: &str, depth: usize, scope: &Scope) {
        let Value::Object(members) = value else { return };
        if self.found.len() >= RESOURCES_MAX {
            return;
        }
        if members.contains_key("copy") {
            self.notes.add(
                self.file,
                &format!("{path}.copy"),
                "a `copy` loop is not worked out: what stands here is read once",
            );
        }
        // Resources inside this one come for themselves.
        let own: Map<String, Value> = members
            .iter()
            .filter(|(key, _)| *key != "resources")
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let value = self.worked_out(&Value::Object(own), path, scope);
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        let (kind, name, id) = (text("type"), text("name"), text("id"));
        let whole = if within.is_empty() || kind.contains('.') { kind } else { format!("{within}/{kind}") };
        if whole.eq_ignore_ascii_case("Microsoft.Resources/deployments") {
            if let Some(template) = members.get("properties").and_then(|properties| properties.get("template")) {
                self.template(template, &format!("{path}.properties.template"), depth + 1);
            }
            return;
        }
        let kind = match last_segment(&whole) {
            "" => kind_by_id(&id).or_else(|| kind_by_shape(&value)).unwrap_or_default(),
            last => last.to_ascii_lowercase(),
        };
        if !kind.is_empty() {
            let name = if name.is_empty() { last_segment(&id).to_owned() } else { last_segment(&name).to_owned() };
            let (file, path) = (self.file.to_owned(), path.to_owned());
            self.found.push(Resource { kind, name, id, value, file, path });
        }
        self.resources(members.get("resources"), &format!("{path}.resources"), &whole, depth + 1, scope);
    }

    /// All expressions in a value worked out; what is not stays, without its brackets, and is noted.
    fn worked_out(&mut self, value: &Value, path: &str, scope: &Scope) -> Value {
        match value {
            Value::String(text) if is_expression(text) => match scope.evaluate(text) {
                Ok(value) => value,
                Err(why) => {
                    self.notes.add(self.file, path, format!("`{}` stays as it is: {why}", short(text)));
                    Value::String(readable(text))
                }
            },
            Value::String(text) => {
                Value::String(text.strip_prefix('[').filter(|rest| rest.starts_with('[')).unwrap_or(text).to_owned())
            }
            Value::Array(items) => {
                let each = items.iter().enumerate();
                Value::Array(each.map(|(at, item)| self.worked_out(item, &format!("{path}[{at}]"), scope)).collect())
            }
            Value::Object(members) => Value::Object(
                members
                    .iter()
                    .map(|(key, value)| (key.clone(), self.worked_out(value, &format!("{path}.{key}"), scope)))
                    .collect(),
            ),
            plain => plain.clone(),
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The last quoted word of an expression: what it is most likely about.
fn readable(text: &str) -> String {
    text.rsplit('\'').nth(1).filter(|word| !word.is_empty()).unwrap_or("unknown").to_owned()
}

/// `…/replicationPolicies/gold` is a policy.
fn kind_by_id(id: &str) -> Option<String> {
    let mut parts = id.trim_end_matches('/').rsplit('/');
    parts.next()?;
    let kind = parts.next()?.to_ascii_lowercase();
    kind.starts_with("replication").then_some(kind)
}

/// A resource cut out of its answer, without type and id.
fn kind_by_shape(value: &Value) -> Option<String> {
    let properties = value.get("properties")?;
    let has = |name: &str| properties.get(name).is_some();
    let kind = if has("groups") {
        "replicationrecoveryplans"
    } else if has("protectionState") || has("protectableItemId") {
        "replicationprotecteditems"
    } else if has("recoveryNetworkId") || has("recoveryNetworkFriendlyName") {
        "replicationnetworkmappings"
    } else if has("providerSpecificDetails") || has("providerSpecificInput") {
        "replicationpolicies"
    } else {
        return None;
    };
    Some(kind.to_owned())
}
