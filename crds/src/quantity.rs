//! [pure] Kubernetes quantities (`500m`, `1.5`, `2Gi`): checked for form, passed on as text.

use serde::{Deserialize, Serialize};

/// A quantity as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

impl Quantity {
    /// Whether Kubernetes would take it: a positive decimal number with an optional suffix.
    pub fn is_valid(&self) -> bool {
        let text = self.0.as_str();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let digits = number.chars().filter(char::is_ascii_digit).count();
        let suffixes = ["", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        (1..=18).contains(&digits) && number.matches('.').count() <= 1 && !number.starts_with('.') && suffixes.contains(&suffix)
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
        for bad in ["", "1x", "-1", "Gi", "1 Gi", "1.2.3", ".5", "1gi", "1234567890123456789"] {
            assert!(!Quantity(bad.into()).is_valid(), "{bad}");
        }
    }
}
