//! [pure] JSON merge patch, and server-side apply of one manager.

use serde_json::{Map, Value};

/// RFC 7396.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Applies what a manager wants now over what it wanted before: fields it no longer names go away.
pub(crate) fn apply(target: &mut Value, before: Option<&Value>, now: &Value) {
    let Value::Object(now) = now else {
        *target = now.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    if let Some(Value::Object(before)) = before {
        for (key, old) in before {
            if !now.contains_key(key) {
                forget(fields, key, old);
            }
        }
    }
    for (key, value) in now {
        let before = before.and_then(|before| before.get(key));
        apply(fields.entry(key.clone()).or_insert(Value::Null), before, value);
    }
}

/// Takes away what a manager had named under `key`, and the object itself when nothing is left of it.
fn forget(fields: &mut Map<String, Value>, key: &str, old: &Value) {
    let Some(current) = fields.get_mut(key) else { return };
    if let (Value::Object(current), Value::Object(old)) = (current, old) {
        for (inner, value) in old {
            forget(current, inner, value);
        }
        if !current.is_empty() {
            return;
        }
    }
    fields.remove(key);
}
