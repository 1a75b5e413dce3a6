//! [io] From a URL to a store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::Store;
use super::local::LocalStore;
use super::object::S3Store;

/// Why a URL is no store. Never holds credentials: of a URL that might, nothing is repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not a form that is known.
    #[error("storage URI {uri:?}: {reason}; use file:///absolute/folder or s3://bucket/prefix")]
    Uri {
        /// What was given.
        uri: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// User or password in the URL.
    #[error("the storage URI holds credentials: take them out, and give them by credentialsSecretRef or environment")]
    Credentials,
    /// An option that no store has, or whose value cannot be used.
    #[error("storage option {name:?}: {reason}")]
    Option {
        /// Its name.
        name: String,
        /// What is wrong with it; never its value.
        reason: String,
    },
    /// The folder or client could not be made.
    #[error("cannot open the store {uri}: {message}")]
    Failed {
        /// Which.
        uri: String,
        /// Why.
        message: String,
    },
}

/// Opens the store at `uri`: `file:///absolute/folder`, or `s3://bucket[/prefix]` with the options of
/// [`S3Store::open`]. Makes no request; a local folder is made at the first write.
pub fn open(uri: &str, options: &BTreeMap<String, String>) -> Result<Arc<dyn Store>, OpenError> {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return Err(OpenError::Uri { uri: uri.to_string(), reason: "it has no scheme" });
    };
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err(OpenError::Credentials);
    }
    let refuse = |reason| Err(OpenError::Uri { uri: uri.to_string(), reason });
    if rest.contains(['?', '#', '%', '\\']) || rest.chars().any(|c| c.is_control()) {
        return refuse("it holds a query, a fragment, an escape or a control character");
    }
    if rest.split('/').any(|segment| segment == "..") {
        return refuse("it holds a parent segment");
    }
    match scheme {
        "file" if !authority.is_empty() => refuse("a file URI has three slashes before an absolute path"),
        "file" if rest.trim_matches('/').is_empty() => refuse("the root of the file system is no store"),
        "file" => Ok(Arc::new(LocalStore::new(Path::new(rest)))),
        "s3" if authority.is_empty() => refuse("it names no bucket"),
        "s3" => Ok(Arc::new(S3Store::open(uri, authority, &rest[authority.len()..], options)?)),
        _ => refuse("its scheme is not supported"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(uri: &str) -> String {
        open(uri, &BTreeMap::new()).expect_err(uri).to_string()
    }

    #[test]
    fn urls_that_are_no_store_are_refused_with_the_reason() {
        for (uri, reason) in [
            ("/tmp/x", "no scheme"),
            ("file://host/x", "three slashes"),
            ("file:///", "root of the file system"),
            ("file:///a/../b", "parent segment"),
            ("file:///a%2e", "escape"),
            ("s3:///prefix", "no bucket"),
            ("s3://bucket/x?y", "query"),
            ("http://host/x", "not supported"),
            ("gs://bucket/x", "not supported"),
        ] {
            assert!(refusal(uri).contains(reason), "{uri}: {}", refusal(uri));
        }
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_repeated() {
        for uri in ["s3://AKIACANARY:hunter2@bucket/x", "file://hunter2@host/x"] {
            let refusal = refusal(uri);
            assert!(refusal.contains("credentials") && !refusal.contains("hunter2") && !refusal.contains("AKIACANARY"), "{refusal}");
        }
    }
}
