//! [io] The operator's master key, and the token of each job that follows from it.
//!
//! A token is HMAC-SHA256 over the job's identity. So the operator can make it again at any time and never has to read a
//! job's Secret: of Secrets in job namespaces it needs the right to create and nothing else.

use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use rheos_control_api::Token;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::error::Error;

/// Name of the Secret with the master key, in the operator's own namespace.
pub const KEY_SECRET: &str = "rheos-operator-key";
/// Its key.
pub const KEY_FIELD: &str = "key";
/// Length of the master key, bytes.
pub const KEY_LENGTH: usize = 32;
/// What the HMAC is over begins with this, so that no other use of the key can give a token.
const CONTEXT: &str = "rheos-job-token/v1/";

/// The master key. It is never shown.
#[derive(Clone)]
pub struct MasterKey(hmac::Key);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    /// Takes the bytes of a key.
    ///
    /// # Errors
    /// It is not [`KEY_LENGTH`] bytes long.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() != KEY_LENGTH {
            return Err(KeyError::Length(bytes.len()));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// The token of a job, in hexadecimal.
    pub fn token_text(&self, namespace: &str, name: &str, uid: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{CONTEXT}{namespace}/{name}/{uid}").as_bytes());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The token of a job, as the client takes it.
    ///
    /// # Errors
    /// Never in practice: 64 hexadecimal digits are a token.
    pub fn token(&self, namespace: &str, name: &str, uid: &str) -> Result<Token, String> {
        Token::parse(&self.token_text(namespace, name, uid))
    }
}

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It has the wrong length.
    #[error(
        "the key of Secret {KEY_SECRET} has {0} bytes; it must have {KEY_LENGTH}. Delete the Secret to have a new one made; the pods of running jobs then have to be replaced"
    )]
    Length(usize),
    /// The Secret has no such field.
    #[error("Secret {KEY_SECRET} has no field {KEY_FIELD:?}; delete it to have a new one made")]
    Field,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// The apiserver refused.
    #[error(transparent)]
    Api(#[from] Error),
}

/// Reads the master key, or makes it when there is none. Two processes that start together get the same one.
///
/// # Errors
/// See [`KeyError`].
pub async fn master_key(client: &Client, namespace: &str) -> Result<MasterKey, KeyError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let what = || format!("the Secret {namespace}/{KEY_SECRET} with the operator's key");
    let found = match secrets.get_opt(KEY_SECRET).await.map_err(Error::api(what()))? {
        Some(found) => found,
        None => {
            let mut bytes = [0_u8; KEY_LENGTH];
            SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Random)?;
            let secret = Secret {
                metadata: ObjectMeta { name: Some(KEY_SECRET.to_owned()), ..ObjectMeta::default() },
                data: Some([(KEY_FIELD.to_owned(), ByteString(bytes.to_vec()))].into()),
                type_: Some("Opaque".to_owned()),
                ..Secret::default()
            };
            match secrets.create(&PostParams::default(), &secret).await {
                Err(kube::Error::Api(status)) if status.code == 409 => secrets.get(KEY_SECRET).await.map_err(Error::api(what()))?,
                made => made.map_err(Error::api(what()))?,
            }
        }
    };
    let data = found.data.unwrap_or_default();
    MasterKey::new(&data.get(KEY_FIELD).ok_or(KeyError::Field)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_one_job_and_one_key() {
        let key = MasterKey::new(&[7; KEY_LENGTH]).unwrap();
        let token = key.token_text("ns", "job", "uid");
        assert_eq!(token.len(), 64);
        assert_eq!(token, key.token_text("ns", "job", "uid"));
        for (namespace, name, uid) in [("ns2", "job", "uid"), ("ns", "job2", "uid"), ("ns", "job", "uid2"), ("n", "s/job", "uid")] {
            assert_ne!(token, key.token_text(namespace, name, uid), "{namespace}/{name}/{uid}");
        }
        assert_ne!(token, MasterKey::new(&[8; KEY_LENGTH]).unwrap().token_text("ns", "job", "uid"));
        assert!(MasterKey::new(&[1; 16]).is_err());
        assert!(!format!("{key:?}").contains('7'));
    }
}
