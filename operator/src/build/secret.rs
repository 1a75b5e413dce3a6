//! [pure] The Secret of a job's token, without its data: the key it is made with never comes here.

use k8s_openapi::api::core::v1::Secret;

use crate::names;
use crate::reconcile::Identity;

/// The key of the Secret that holds the token.
pub const TOKEN_KEY: &str = "token";

/// The Secret; whoever creates it puts the token in under [`TOKEN_KEY`].
pub fn token(job: &Identity) -> Secret {
    Secret {
        metadata: super::owned(job, names::token(&job.name, &job.uid)),
        type_: Some("Opaque".to_owned()),
        immutable: Some(true),
        ..Secret::default()
    }
}
