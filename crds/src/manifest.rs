//! [pure] Reading a manifest: YAML (or JSON) text to a [`StreamJob`] or a [`Savepoint`], with budgets against bombs, and errors that name
//! line, column and field.
//!
//! A file may hold several YAML documents; exactly one of them must be of the kind that is read, the others are not looked at.

use serde::Deserialize;

use crate::savepoint::Savepoint;
use crate::stream_job::StreamJob;
use crate::{API_VERSION, KIND, SAVEPOINT_KIND, suggest};

/// Longest manifest, bytes.
pub const MANIFEST_LIMIT: usize = 1024 * 1024;
/// Deepest nesting.
pub const DEPTH_LIMIT: usize = 32;
/// Most aliases (`*name`).
pub const ALIAS_LIMIT: usize = 64;
/// Most nodes after aliases are expanded.
pub const NODE_LIMIT: usize = 20_000;
/// Most documents in a file.
pub const DOCUMENT_LIMIT: usize = 256;

/// Why a text is no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{problem}", position(.line, .column), field(.path))]
pub struct ManifestError {
    /// Line, from 1, where known.
    pub line: Option<u64>,
    /// Column, from 1, where known.
    pub column: Option<u64>,
    /// The field that was being read, where known: `spec.checkpoint`.
    pub path: Option<String>,
    /// What is wrong, and where known what would be right.
    pub problem: String,
}

fn position(line: &Option<u64>, column: &Option<u64>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!("line {line}, column {column}: "),
        _ => String::new(),
    }
}

fn field(path: &Option<String>) -> String {
    path.as_ref().map_or_else(String::new, |path| format!("{path}: "))
}

/// Reads the one `StreamJob` of a manifest. Nothing but form is checked; see [`crate::validate`](crate::validate()).
///
/// # Errors
/// The text is too long, no YAML, over budget, holds no `StreamJob` or several, or a field is unknown or of a wrong type.
pub fn parse_manifest(text: &str) -> Result<StreamJob, ManifestError> {
    only(KIND, text)
}

/// Reads the one `StreamJob` of a manifest as it was written: without defaults, and with whatever fields it has. For
/// those who send it on.
///
/// # Errors
/// As [`parse_manifest`], but for fields.
pub fn parse_value(text: &str) -> Result<serde_json::Value, ManifestError> {
    only(KIND, text)
}

/// Reads the one `Savepoint` of a manifest. Nothing but form is checked; see [`crate::validate_savepoint`].
///
/// # Errors
/// As [`parse_manifest`].
pub fn parse_savepoint(text: &str) -> Result<Savepoint, ManifestError> {
    only(SAVEPOINT_KIND, text)
}

/// The one document of this kind.
fn only<T: for<'de> Deserialize<'de>>(kind: &str, text: &str) -> Result<T, ManifestError> {
    if text.len() > MANIFEST_LIMIT {
        return Err(plain(format!("the manifest has {} bytes; at most {MANIFEST_LIMIT} are read", text.len())));
    }
    let documents = documents(text)?;
    let chosen = match documents.as_slice() {
        [] => return Err(plain(format!("the manifest is empty; write a {kind} (apiVersion: {API_VERSION})"))),
        [only] => only,
        several => {
            let mut jobs = Vec::new();
            for document in several {
                let head: Head = read(document)?;
                if head.kind.as_deref() == Some(kind) {
                    jobs.push(document);
                }
            }
            match jobs.as_slice() {
                [only] => *only,
                [] => return Err(plain(format!("none of the {} documents is a {kind}", several.len()))),
                jobs => return Err(plain(format!("{} documents are a {kind}; keep one in a file", jobs.len()))),
            }
        }
    };
    let head: Head = read(chosen)?;
    match head.kind.as_deref() {
        Some(found) if found == kind => read(chosen),
        Some(other) => Err(plain(format!("kind: {other:?} is not known; write {kind}"))),
        None => Err(plain(format!("kind: is missing; write {kind}"))),
    }
}

/// What a document says it is.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    kind: Option<String>,
}

/// A document, with empty lines in front so that positions are those of the file.
type Document = String;

/// Splits at document markers: `---` at the start of a line is one wherever it stands, even inside a block scalar.
fn documents(text: &str) -> Result<Vec<Document>, ManifestError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parts = vec![String::new()];
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        if bare == "---" || bare.starts_with("--- ") || bare.starts_with("---\t") {
            if parts.len() == DOCUMENT_LIMIT {
                return Err(plain(format!("the manifest has more than {DOCUMENT_LIMIT} documents")));
            }
            parts.push("\n".repeat(number));
        }
        if let Some(part) = parts.last_mut() {
            part.push_str(line);
        }
    }
    parts.retain(|part| {
        part.lines().map(str::trim).any(|line| !line.is_empty() && line != "---" && line != "..." && !line.starts_with('#'))
    });
    Ok(parts)
}

fn read<T: for<'de> Deserialize<'de>>(document: &Document) -> Result<T, ManifestError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_LIMIT,
            flow_nesting_limit: DEPTH_LIMIT,
            max_aliases: ALIAS_LIMIT,
            max_anchors: ALIAS_LIMIT,
            max_nodes: NODE_LIMIT,
            max_documents: 1,
        },
        with_snippet: false,
    };
    let mut path = None;
    serde_saphyr::with_deserializer_from_str_with_options(document, options, |deserializer| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            path = Some(error.path().to_string());
            error.into_inner()
        })
    })
    .map_err(|error| explain(&error, path))
}

fn explain(error: &serde_saphyr::Error, path: Option<String>) -> ManifestError {
    use serde_saphyr::Error;

    let problem = match error.without_snippet() {
        Error::SerdeUnknownField { field, expected, .. } => {
            let hint = match suggest::nearest(field, expected.iter().copied()) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!("known are {}", expected.join(", ")),
            };
            format!("unknown field {field:?}; {hint}")
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            let hint = match suggest::nearest(variant, expected.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("write one of {}", expected.join(", ")),
            };
            format!("unknown value {variant:?}; {hint}")
        }
        Error::SerdeMissingField { field, .. } => format!("field {field:?} is missing"),
        other => {
            let text = other.render();
            let first = text.lines().next().unwrap_or_default();
            // The place is told once, in front.
            in_words(first.split(" at line ").next().unwrap_or(first))
        }
    };
    let location = error.location();
    ManifestError {
        line: location.map(|location| location.line()),
        column: location.map(|location| location.column()),
        path: path.filter(|path| path != "." && !path.is_empty()),
        problem,
    }
}

/// The reader's terms as a person says them.
fn in_words(problem: &str) -> String {
    if let Some(limit) = problem.strip_prefix("budget breached: ") {
        return format!("holds more than a manifest may ({limit})");
    }
    match problem {
        "invalid i64" => "expected a whole number".to_owned(),
        "expected mapping start" => "expected a mapping, written as field: value".to_owned(),
        "recursion limit exceeded" => format!("is nested deeper than {DEPTH_LIMIT} levels"),
        other => other.to_owned(),
    }
}

fn plain(problem: String) -> ManifestError {
    ManifestError { line: None, column: None, path: None, problem }
}

#[cfg(test)]
mod tests;
