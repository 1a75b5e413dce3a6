//! [pure] Names of tables and columns in statements.

/// A table's name, with its schema if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableName(Vec<String>);

impl TableName {
    /// Reads `table`, `schema.table`, or parts with quotation marks: `"My schema"."table"`. Letters keep their case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
        let mut chars = text.trim().chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' if quoted && chars.peek() == Some(&'"') => {
                    chars.next();
                    part.push('"');
                }
                '"' => quoted = !quoted,
                '.' if !quoted => parts.push(std::mem::take(&mut part)),
                '\0' => return None,
                c => part.push(c),
            }
        }
        parts.push(part);
        (!quoted && parts.len() <= 2 && parts.iter().all(|part| !part.is_empty())).then_some(Self(parts))
    }

    /// As it stands in a statement.
    pub(crate) fn sql(&self) -> String {
        self.0.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(".")
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// A name between quotation marks.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_quoted() {
        let cases = [
            ("orders", "\"orders\""),
            ("Sales.Orders", "\"Sales\".\"Orders\""),
            ("\"a.b\".\"c\"\"d\"", "\"a.b\".\"c\"\"d\""),
            ("x\"; DROP TABLE y; --\"", "\"x; DROP TABLE y; --\""),
        ];
        for (text, sql) in cases {
            assert_eq!(TableName::parse(text).unwrap().sql(), sql);
        }
        for bad in ["", ".", "a.", "a.b.c", "\"a", "a\0"] {
            assert_eq!(TableName::parse(bad), None, "{bad:?}");
        }
    }
}
