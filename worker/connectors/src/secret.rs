//! [io] `${secret:name/key}` in options: the value of a key of a Kubernetes Secret in the job's namespace.
//!
//! Only values that go to an external system may hold references, and they are resolved only where that system's client
//! is made: plan, status, checkpoints, logs and errors hold the reference, never what it stands for. A folder holds the
//! Secrets as Kubernetes mounts them, a folder for each and a file for each of its keys; the operator mounts those that
//! [`secret_reference::names`](rheos_api::secret_reference::names) finds in the SQL, into the worker's pods only. On one machine `RHEOS_SECRETS` names such a folder.

use std::path::{Path, PathBuf};

use rheos_api::secret_reference::{CLOSE, OPEN, parts};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};

/// A Secret's value is at most this long, bytes; Kubernetes' own limit is 1 MiB a Secret.
const MAX_BYTES: u64 = 1024 * 1024;

/// The Secrets that are mounted.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    folder: Option<PathBuf>,
}

impl Secrets {
    /// Those in this folder.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()) }
    }

    /// `text` with each reference replaced.
    ///
    /// # Errors
    /// When a Secret or key is not there, or a reference is none. The message names the reference alone.
    pub fn resolve(&self, text: &str) -> Result<String> {
        let mut resolved = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(OPEN) {
            resolved.push_str(&rest[..at]);
            let (reference, behind) = rest[at + OPEN.len()..].split_once(CLOSE).ok_or_else(|| wrong(&rest[at..]))?;
            resolved.push_str(&self.value(reference)?);
            rest = behind;
        }
        resolved.push_str(rest);
        Ok(resolved)
    }

    fn value(&self, reference: &str) -> Result<String> {
        let (name, key) = parts(reference).ok_or_else(|| wrong(reference))?;
        let user = |message: String| DataflowError::new("secret", ErrorKind::User, message);
        let Some(folder) = &self.folder else {
            let message = format!("{OPEN}{reference}{CLOSE}: no Secrets are mounted; on one machine, RHEOS_SECRETS names a folder of them");
            return Err(user(message));
        };
        let file: &Path = &folder.join(name).join(key);
        let missing = format!("there is no key '{key}' in a Secret '{name}': create it in the job's namespace");
        let length = std::fs::metadata(file).map_err(|_| DataflowError::new("secret", ErrorKind::Denied, missing))?.len();
        if length > MAX_BYTES {
            return Err(user(format!("key '{key}' of Secret '{name}' is longer than {MAX_BYTES} bytes")));
        }
        let text =
            std::fs::read_to_string(file).map_err(|_| user(format!("key '{key}' of Secret '{name}' is not a text that can be read")))?;
        // Most files end in a line end that nobody means.
        Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
    }
}

fn wrong(reference: &str) -> DataflowError {
    let shown: String = reference.chars().take(80).collect();
    DataflowError::new("secret", ErrorKind::User, format!("'{shown}' is no reference to a Secret: write {OPEN}name/key{CLOSE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_lead_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("kafka")).unwrap();
        std::fs::write(folder.path().join("kafka/password"), "s3cr$t}\n").unwrap();
        std::fs::write(folder.path().join("outside"), "no").unwrap();
        let secrets = Secrets::in_folder(folder.path());
        assert_eq!(secrets.resolve("a ${secret:kafka/password} b").unwrap(), "a s3cr$t} b");
        assert_eq!(secrets.resolve("plain $ {} text").unwrap(), "plain $ {} text");
        for bad in ["${secret:kafka}", "${secret:../outside}", "${secret:kafka/../../outside}", "${secret:kafka/none}", "${secret:open"] {
            let message = secrets.resolve(bad).unwrap_err().to_string();
            assert!(!message.contains("s3cr"), "{message}");
            assert!(message.contains(if bad.ends_with("none}") { "access denied" } else { "invalid job" }), "{message}");
        }
        assert!(Secrets::default().resolve("${secret:a/b}").unwrap_err().message.contains("RHEOS_SECRETS"));
    }
}
