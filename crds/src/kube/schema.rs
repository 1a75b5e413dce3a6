//! [pure] Makes a structural schema of what the types give: cleans it, and writes bounds and CEL rules into it.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    ValidationRule,
};

use super::rules;
use crate::duration;

/// Formats that Kubernetes knows; it warns about others (`uint32`, …), whose bounds stand beside them anyway.
const FORMATS: [&str; 2] = ["int32", "int64"];

/// Completes a derived definition: cleaned, with columns, bounds and rules.
pub(super) fn complete(crd: &mut CustomResourceDefinition, columns: Vec<CustomResourceColumnDefinition>, rules: fn(&mut Schema<'_>)) {
    for version in &mut crd.spec.versions {
        version.additional_printer_columns = Some(columns.clone());
        if let Some(root) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            clean(root);
            if let Some(status) = root.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
                without_defaults(status);
            }
            rules(&mut Schema(root));
        }
    }
}

/// A null is as good as nothing, in every field: the apiserver drops it where a field is not nullable, and so do the
/// readers of these types.
fn clean(node: &mut JSONSchemaProps) {
    node.nullable = None;
    // The name of a Rust type.
    node.title = None;
    node.format = node.format.take().filter(|format| FORMATS.contains(&format.as_str()));
    node.default = node.default.take().filter(|default| !default.0.is_null());
    for_each_child(node, clean);
}

/// A status says only what was seen.
fn without_defaults(node: &mut JSONSchemaProps) {
    node.default = None;
    for_each_child(node, without_defaults);
}

fn for_each_child(node: &mut JSONSchemaProps, change: fn(&mut JSONSchemaProps)) {
    node.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(change);
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut node.additional_properties {
        change(values);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut node.items {
        change(items);
    }
}

/// A schema whose fields are found by path.
pub(super) struct Schema<'a>(&'a mut JSONSchemaProps);

impl Schema<'_> {
    /// The field at a dotted path; `*` is the value of a map. A path that is not there is made, and then fails the test
    /// that every field has a type.
    pub(super) fn at(&mut self, path: &str) -> Field<'_> {
        let mut node = &mut *self.0;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            node = match (part, &mut node.additional_properties) {
                ("*", Some(JSONSchemaPropsOrBool::Schema(values))) => values,
                _ => node.properties.get_or_insert_default().entry(part.to_owned()).or_default(),
            };
        }
        Field(node)
    }
}

/// One field of a schema.
pub(super) struct Field<'a>(&'a mut JSONSchemaProps);

impl Field<'_> {
    /// A CEL rule and what is said when it does not hold.
    pub(super) fn rule(&mut self, rule: impl Into<String>, message: impl Into<String>) -> &mut Self {
        let rule = ValidationRule { rule: rule.into(), message: Some(message.into()), ..ValidationRule::default() };
        self.0.x_kubernetes_validations.get_or_insert_default().push(rule);
        self
    }

    /// A number from `least` to `most`.
    pub(super) fn range(&mut self, least: i64, most: i64) -> &mut Self {
        self.0.minimum = Some(least as f64);
        self.0.maximum = Some(most as f64);
        self
    }

    /// A number of at least `least`.
    pub(super) fn at_least(&mut self, least: i64) -> &mut Self {
        self.0.minimum = Some(least as f64);
        self
    }

    /// A text of at most this many characters.
    pub(super) fn longest(&mut self, characters: usize) -> &mut Self {
        self.0.max_length = i64::try_from(characters).ok();
        self
    }

    /// A text of this form. The apiserver shows the text when it is not: not for what may hold a secret.
    pub(super) fn pattern(&mut self, pattern: impl Into<String>) -> &mut Self {
        self.0.pattern = Some(pattern.into());
        self
    }

    /// A map or list of at most this many.
    pub(super) fn most(&mut self, count: usize) -> &mut Self {
        let count = i64::try_from(count).ok();
        match self.0.items {
            Some(_) => self.0.max_items = count,
            None => self.0.max_properties = count,
        }
        self
    }

    /// A list of objects that are told apart by this field, so that each can have its own manager.
    pub(super) fn keyed_by(&mut self, key: &str) -> &mut Self {
        self.0.x_kubernetes_list_type = Some("map".to_owned());
        self.0.x_kubernetes_list_map_keys = Some(vec![key.to_owned()]);
        self
    }

    /// A duration of at least `least`.
    pub(super) fn duration(&mut self, least: Duration) -> &mut Self {
        let most = Duration::from_secs(duration::MAX_DAYS * 24 * 60 * 60);
        let millis = rules::millis("self");
        let range = format!("use {} to {}d", duration::display(least), duration::MAX_DAYS);
        self.longest(duration::TEXT_LIMIT)
            .rule(
                format!("self != '' && self.matches('{}')", rules::DURATION),
                "write numbers with d, h, m, s, ms in this order, for example 1h30m",
            )
            .rule(format!("{millis} >= {} && {millis} <= {}", least.as_millis(), most.as_millis()), range)
    }
}
