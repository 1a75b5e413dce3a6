//! [pure] Short hashes of JSON values: equal values give equal hashes, however their fields are ordered.

use std::fmt::Write as _;

use ring::digest::{SHA256, digest};
use serde_json::Value;

/// The first `digits` (at most 64) lower-case hex digits of the SHA-256 of a value's canonical JSON.
pub fn of_json(value: &Value, digits: usize) -> String {
    let mut text = String::new();
    canonical(value, &mut text);
    of_text(&text, digits)
}

/// The first `digits` (at most 64) lower-case hex digits of the SHA-256 of a text.
pub fn of_text(text: &str, digits: usize) -> String {
    let mut hex = String::new();
    for byte in digest(&SHA256, text.as_bytes()).as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex.truncate(digits);
    hex
}

/// JSON without white space, the fields of objects by name.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<&String> = fields.keys().collect();
            names.sort();
            text.push('{');
            for (place, name) in names.into_iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                let _ = write!(text, "{}:", Value::String(name.clone()));
                canonical(&fields[name], text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                canonical(item, text);
            }
            text.push(']');
        }
        other => {
            let _ = write!(text, "{other}");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_fields_does_not_matter_and_that_of_items_does() {
        let hash = |text: &str| of_json(&serde_json::from_str(text).unwrap(), 8);
        assert_eq!(hash(r#"{"a":1,"b":{"c":[1,2],"d":"x"}}"#), hash(r#"{"b":{"d":"x","c":[1,2]},"a":1}"#));
        assert_ne!(hash(r#"{"c":[1,2]}"#), hash(r#"{"c":[2,1]}"#));
    }

    #[test]
    fn it_is_plain_sha_256() {
        assert_eq!(of_text("abc", 8), "ba7816bf");
        assert_eq!(of_json(&json!({}), 64).len(), 64);
    }
}
