//! [pure] Kubernetes quantities (`500m`, `"1.5"`, `2Gi`): checked for form, passed on as text.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

/// The form as a regular expression.
pub const PATTERN: &str = "^[0-9]{1,15}([.][0-9]{1,9})?(m|[kMGTPE]|[KMGTPE]i)?$";

const SUFFIXES: [&str; 14] = ["", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// A quantity as written. Text, or a whole number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// Takes what the schema's int-or-string takes.
struct Reader;

impl Visitor<'_> for Reader {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a quantity: text like 500m or 4Gi, or a whole number; fractions in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
        Ok(Quantity(text.to_owned()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
        Ok(Quantity(number.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
        Ok(Quantity(number.to_string()))
    }
}

#[cfg(feature = "kube")]
impl schemars::JsonSchema for Quantity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true})
    }
}

impl Quantity {
    /// Whether it has the form of [`PATTERN`], which is what Kubernetes takes but for signs, exponents and very long
    /// numbers.
    pub fn is_valid(&self) -> bool {
        let text = self.0.as_str();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        digits(whole, 15) && digits(fraction, 9) && SUFFIXES.contains(&suffix)
    }
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    #[test]
    fn knows_quantities() {
        for good in ["1", "500m", "1.5", "2Gi", "128974848", "100k"] {
            assert!(Quantity(good.into()).is_valid(), "{good}");
        }
        for bad in ["", "1x", "-1", "Gi", "1 Gi", "1.2.3", ".5", "1gi", "1234567890123456", "1.", "1.1234567890"] {
            assert!(!Quantity(bad.into()).is_valid(), "{bad}");
        }
    }
}
