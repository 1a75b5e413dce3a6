//! [pure] Secrets are taken out of everything that a report holds: by what a field is called, by the form of a value, and
//! by the secrets that are known.
//!
//! It takes out too much rather than too little. What it cannot know is a secret under a harmless name in a sentence.

use regex::{Captures, Regex};
use serde_json::Value;

/// What stands in the place of a secret.
pub const GONE: &str = "***";

/// Words in the name of a field or an option whose value is a secret.
const NAMES: &str = "password|passwd|passphrase|secret|token|credential|api[_.-]?key|access[_.-]?key|private[_.-]?key|account[_.-]?key|jaas|authorization|signature|sas[_.-]?token";

/// Takes secrets out.
pub struct Redactor {
    known: Vec<String>,
    options: Regex,
    forms: Vec<(Regex, &'static str)>,
    name: Regex,
}

impl Redactor {
    /// One that also knows these secrets.
    ///
    /// # Errors
    /// Never in practice: the expressions are fixed.
    pub fn new(known: Vec<String>) -> Result<Self, regex::Error> {
        // A name with one of the words, then `=` or `:`, then a value: quoted, or up to the next gap.
        let options = format!(
            r#"(?i)(\\*['"]?[\w.\-]*(?:{NAMES})[\w.\-]*\\*['"]?[ \t]*[:=][ \t]*)('(?:[^']|'')*'|\\*"(?:[^"\\]|\\[^"])*\\*"|[^\s,;&'"{{}}\[\]\\]+)"#
        );
        let form = |expression: &str, by: &'static str| Ok::<_, regex::Error>((Regex::new(expression)?, by));
        let forms = vec![
            form(r"([A-Za-z][A-Za-z0-9+.\-]*://)[^/\s'@]*@", "${1}***@")?,
            form(r"(?i)(bearer|basic)\s+[A-Za-z0-9._~+/=\-]{8,}", "${1} ***")?,
            form(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", GONE)?,
            form(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)", GONE)?,
            form(r"\beyJ[A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]+\.[A-Za-z0-9_\-]*", GONE)?,
        ];
        let known = known.into_iter().filter(|secret| !secret.is_empty()).collect();
        Ok(Self { known, options: Regex::new(&options)?, forms, name: Regex::new(&format!("(?i){NAMES}"))? })
    }

    /// A text without secrets.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.known {
            text = text.replace(secret.as_str(), GONE);
        }
        for (form, by) in &self.forms {
            text = form.replace_all(&text, *by).into_owned();
        }
        let keep = |found: &Captures<'_>| {
            let (name, value) = (&found[1], &found[2]);
            let bare = value.trim_matches(|c| matches!(c, '\'' | '"' | '\\'));
            // A reference to a Secret is no secret.
            if bare.starts_with("${secret:") && bare.ends_with('}') {
                return found[0].to_owned();
            }
            let quote: String = value.chars().take_while(|c| matches!(c, '\'' | '"' | '\\')).collect();
            format!("{name}{quote}{GONE}{quote}")
        };
        self.options.replace_all(&text, keep).into_owned()
    }

    /// An object of Kubernetes without secrets: values of environment variables, of fields with telling names, what
    /// `kubectl apply` keeps of the last manifest, and everything that [`Redactor::text`] finds.
    pub fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => {
                fields.remove("managedFields");
                fields.retain(|name, _| !name.ends_with("last-applied-configuration"));
                for (name, field) in fields.iter_mut() {
                    match field {
                        Value::Array(variables) if name == "env" => variables.iter_mut().for_each(|variable| self.variable(variable)),
                        Value::String(text) if self.name.is_match(name) && !is_reference(name) => *text = GONE.to_owned(),
                        field => self.value(field),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn variable(&self, variable: &mut Value) {
        if let Some(value) = variable.get_mut("value") {
            *value = GONE.into();
        }
        self.value(variable);
    }
}

/// Fields that name a Secret and hold none.
fn is_reference(name: &str) -> bool {
    ["secretName", "secretKeyRef", "automountServiceAccountToken"].contains(&name) || name.ends_with("Ref")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn redactor() -> Redactor {
        Redactor::new(vec!["f00dfeedf00dfeed".into()]).unwrap()
    }

    #[test]
    fn secrets_go_and_what_is_around_them_stays() {
        for (text, expected) in [
            ("'password' = 'it''s me', 'topic' = 'bids'", "'password' = '***', 'topic' = 'bids'"),
            ("'properties.sasl.jaas.config' = 'x y'", "'properties.sasl.jaas.config' = '***'"),
            ("'password' = '${secret:db/key}'", "'password' = '${secret:db/key}'"),
            (r#"{"apiKey":"abc","n":1}"#, r#"{"apiKey":"***","n":1}"#),
            (r#"{\"password\":\"abc\",\"n\":1}"#, r#"{\"password\":\"***\",\"n\":1}"#),
            ("aws_secret_access_key=abc/def next", "aws_secret_access_key=*** next"),
            ("postgres://u:p@host/db", "postgres://***@host/db"),
            ("jdbc:postgresql://h/db?user=a&password=p&x=1", "jdbc:postgresql://h/db?user=a&password=***&x=1"),
            ("Authorization: Bearer abcdefgh12345", "Authorization: *** ***"),
            ("saw f00dfeedf00dfeed here", "saw *** here"),
            ("AKIAIOSFODNN7EXAMPLE", "***"),
            ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----.", "***."),
            ("t eyJhbGciOi.eyJzdWIi.sig end", "t *** end"),
            ("https://b.s3/x?X-Amz-Credential=abc&X-Amz-Signature=def", "https://b.s3/x?X-Amz-Credential=***&X-Amz-Signature=***"),
            ("credentialsSecretRef:\n  name: s3", "credentialsSecretRef:\n  name: s3"),
            ("checkpoint 7 took 30 ms at s3://bucket/prefix", "checkpoint 7 took 30 ms at s3://bucket/prefix"),
        ] {
            assert_eq!(redactor().text(text), expected);
        }
    }

    #[test]
    fn objects_lose_their_secrets_and_keep_their_form() {
        let mut pod = json!({
            "metadata": {"name": "a", "managedFields": [1], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "b": "c"}},
            "spec": {
                "containers": [{"env": [{"name": "A", "value": "plain"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}],
                "volumes": [{"secret": {"secretName": "a-token", "defaultMode": 256}}],
                "checkpoint": {"storage": {"credentialsSecretRef": {"name": "s3"}}},
                "myToken": "abc",
            },
        });
        redactor().value(&mut pod);
        assert_eq!(
            pod,
            json!({
                "metadata": {"name": "a", "annotations": {"b": "c"}},
                "spec": {
                    "containers": [{"env": [{"name": "A", "value": "***"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}],
                    "volumes": [{"secret": {"secretName": "a-token", "defaultMode": 256}}],
                    "checkpoint": {"storage": {"credentialsSecretRef": {"name": "s3"}}},
                    "myToken": "***",
                },
            })
        );
    }
}
