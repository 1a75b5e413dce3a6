//! [pure] What an apiserver does with an object of a custom resource: defaults, schema, CEL rules. The parts of a
//! structural schema that our definitions use; anything else fails, so that nothing is passed over in silence.

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::extractors::This;
use cel::{Context, Program, Value as Cel};
use regex::Regex;
use serde_json::{Map, Value, json};

/// Keywords that say nothing about validity, or that [`check`] and [`Server`] read.
const KEYWORDS: [&str; 22] = [
    "type",
    "description",
    "properties",
    "required",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "enum",
    "format",
    "items",
    "additionalProperties",
    "maxItems",
    "maxProperties",
    "x-kubernetes-validations",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "anyOf",
];

/// The validation of one resource.
pub(crate) struct Server {
    schema: Value,
    programs: Programs,
}

/// Compiled rules, by their text.
type Programs = BTreeMap<String, Program>;

impl Server {
    pub(crate) fn new(schema: Value) -> Self {
        let mut programs = Programs::new();
        compile(&schema, &mut programs);
        Self { schema, programs }
    }

    /// Stores an object, or says everything that speaks against it. `old` is what it replaces.
    pub(crate) fn admit(&self, object: &Value, old: Option<&Value>) -> Result<Value, Vec<String>> {
        let mut object = object.clone();
        let mut errors = Vec::new();
        defaults(&self.schema, &mut object);
        check(&self.schema, &object, "", &mut errors);
        // As in the apiserver, rules run only over what has the schema's form.
        if errors.is_empty() {
            rules(&self.programs, &self.schema, &object, old, "", &mut errors);
        }
        if errors.is_empty() { Ok(object) } else { Err(errors) }
    }
}

fn compile(schema: &Value, programs: &mut Programs) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = rule["rule"].as_str().unwrap();
        programs.insert(text.to_owned(), Program::compile(text).unwrap_or_else(|error| panic!("{text}: {error}")));
    }
    schema["properties"].as_object().into_iter().flat_map(Map::values).for_each(|field| compile(field, programs));
    ["items", "additionalProperties"].iter().filter_map(|inner| schema.get(inner)).for_each(|inner| compile(inner, programs));
}

/// Fills in defaults from the outside in, and drops nulls.
fn defaults(schema: &Value, value: &mut Value) {
    if let (Some(properties), Value::Object(fields)) = (schema["properties"].as_object(), &mut *value) {
        fields.retain(|_, value| !value.is_null());
        for (name, schema) in properties {
            if !fields.contains_key(name)
                && let Some(default) = schema.get("default")
            {
                fields.insert(name.clone(), default.clone());
            }
            if let Some(field) = fields.get_mut(name) {
                defaults(schema, field);
            }
        }
    }
    if let (Some(schema), Value::Object(fields)) = (schema.get("additionalProperties"), &mut *value) {
        fields.values_mut().for_each(|value| defaults(schema, value));
    }
    if let (Some(schema), Value::Array(items)) = (schema.get("items"), value) {
        items.iter_mut().for_each(|item| defaults(schema, item));
    }
}

fn check(schema: &Value, value: &Value, path: &str, errors: &mut Vec<String>) {
    for keyword in schema.as_object().into_iter().flat_map(Map::keys) {
        assert!(KEYWORDS.contains(&keyword.as_str()), "{path}: the model does not know {keyword}");
    }
    let mut wrong = |what: String| errors.push(format!("{}: {what}", path.trim_start_matches('.')));
    let either = schema["x-kubernetes-int-or-string"] == true;
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        None if either => value.is_string() || value.is_i64() || value.is_u64(),
        other => panic!("{path}: type {other:?}"),
    };
    if !fits {
        return wrong(format!("is no {}", schema["type"]));
    }
    if let Some(number) = value.as_f64() {
        if schema["minimum"].as_f64().is_some_and(|least| number < least) {
            wrong("is too small".into());
        }
        if schema["maximum"].as_f64().is_some_and(|most| number > most) {
            wrong("is too large".into());
        }
    }
    if let Some(text) = value.as_str() {
        let characters = text.chars().count() as u64;
        if schema["maxLength"].as_u64().is_some_and(|most| characters > most)
            || schema["minLength"].as_u64().is_some_and(|n| characters < n)
        {
            wrong("has a wrong length".into());
        }
        if schema["pattern"].as_str().is_some_and(|pattern| !Regex::new(pattern).unwrap().is_match(text)) {
            wrong("misses the pattern".into());
        }
        if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
            wrong("is none of the values".into());
        }
    }
    if let Value::Object(fields) = value {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                wrong(format!("{name} is missing"));
            }
        }
        if schema["maxProperties"].as_u64().is_some_and(|most| fields.len() as u64 > most) {
            wrong("has too many fields".into());
        }
        for (name, value) in fields {
            let path = format!("{path}.{name}");
            match (&schema["properties"][name], &schema["additionalProperties"]) {
                (Value::Null, Value::Null) if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
                // The apiserver's own, in every resource.
                (Value::Null, Value::Null) if [".apiVersion", ".kind", ".metadata"].contains(&path.as_str()) => {}
                // Strict, as kubectl asks for it.
                (Value::Null, Value::Null) if schema["properties"].is_object() => errors.push(format!("{path}: is unknown")),
                (Value::Null, Value::Null) => {}
                (Value::Null, schema) | (schema, _) => check(schema, value, &path, errors),
            }
        }
    } else if let Value::Array(items) = value {
        items.iter().for_each(|item| check(&schema["items"], item, path, errors));
    }
}

/// Runs every rule whose field is there; a rule with `oldSelf` only where the field was there before.
fn rules(programs: &Programs, schema: &Value, value: &Value, old: Option<&Value>, path: &str, errors: &mut Vec<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = rule["rule"].as_str().unwrap();
        if old.is_none() && text.contains("oldSelf") {
            continue;
        }
        let holds = evaluate(&programs[text], value, old);
        if holds != Ok(true) {
            errors.push(format!("{}: {} {}", path.trim_start_matches('.'), rule["message"], holds.err().unwrap_or_default()));
        }
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        let inner = match &schema["properties"][name] {
            Value::Null => &schema["additionalProperties"],
            field => field,
        };
        rules(programs, inner, value, old.and_then(|old| old.get(name)), &format!("{path}.{name}"), errors);
    }
}

fn evaluate(program: &Program, value: &Value, old: Option<&Value>) -> Result<bool, String> {
    let mut context = Context::default();
    context.add_function("find", |This(text): This<Arc<String>>, pattern: Arc<String>| -> Arc<String> {
        let found = Regex::new(&pattern).unwrap().find(&text).map(|found| found.as_str().to_owned());
        Arc::new(found.unwrap_or_default())
    });
    context.add_variable_from_value("self", cel::to_value(value).map_err(|error| error.to_string())?);
    context.add_variable_from_value("oldSelf", cel::to_value(old.unwrap_or(&json!(null))).map_err(|error| error.to_string())?);
    match program.execute(&context) {
        Ok(Cel::Bool(holds)) => Ok(holds),
        other => Err(format!("{other:?}")),
    }
}
