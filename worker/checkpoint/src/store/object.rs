//! [io] A store behind the S3 protocol (or any back end of `object_store`).
//!
//! - Conditional puts are `If-None-Match: *` and `If-Match: <etag>`. An endpoint that ignores them would break fencing
//!   in silence, so the first conditional put of each S3 store tries them out on an object beside its target, and
//!   refuses the endpoint by name when it does not honour them.
//! - Requests are retried by the client, boundedly. After an error answer (5xx, lost connection) a put may have
//!   happened, so it is `Indeterminate`; and a retried `Create` may meet its own first attempt: the tokens of the
//!   protocol tell.
//! - Credentials come from options or environment; the address that hands them out on cloud machines is asked only
//!   when the option `instance_metadata` says so. Messages are searched for secrets before they leave this file.

#![allow(clippy::disallowed_methods, reason = "an edge: tokens must differ between processes")]

use std::collections::BTreeMap;
use std::error::Error as _;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode as RemotePut, PutOptions, RetryConfig,
    UpdateVersion,
};
use tokio::sync::OnceCell;

use super::open::OpenError;
use super::{Action, Entry, Listing, Object, PutMode, Store, StoreError, StoreResult, Version, check_limit};
use crate::paths::{ObjectPath, probe_beside};

/// Further tries of a request.
const MAX_RETRIES: usize = 5;
/// No further try begins after this long.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
/// One request, body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Making a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest message of an error, characters.
const MESSAGE_CHARS: usize = 400;

/// Options that a user may set; the others of the client would weaken what this file promises.
const ALLOWED: &[Key] = &[
    Key::AccessKeyId,
    Key::SecretAccessKey,
    Key::Token,
    Key::Region,
    Key::Endpoint,
    Key::VirtualHostedStyleRequest,
    Key::WebIdentityTokenFile,
    Key::RoleArn,
    Key::RoleSessionName,
    Key::ContainerCredentialsRelativeUri,
    Key::ContainerCredentialsFullUri,
    Key::ContainerAuthorizationTokenFile,
    Key::SkipSignature,
];
/// Option: speak plain HTTP to the endpoint.
const ALLOW_HTTP: &str = "allow_http";
/// Option: take credentials from the metadata service of the cloud machine.
const INSTANCE_METADATA: &str = "instance_metadata";

/// A prefix of a bucket as a store.
pub struct S3Store {
    inner: Arc<dyn ObjectStore>,
    prefix: String,
    secrets: Secrets,
    /// The endpoint's name for messages, while it still has to show that it honours conditions.
    unproven: Option<String>,
    proof: OnceCell<()>,
}

/// Never printed.
struct Secrets(Vec<String>);

impl std::fmt::Debug for S3Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The client prints its credentials.
        f.debug_struct("S3Store").field("prefix", &self.prefix).field("unproven", &self.unproven).finish_non_exhaustive()
    }
}

impl S3Store {
    /// Opens `bucket` with `prefix`. Options, also under their `AWS_…` names, over those of the environment:
    /// `access_key_id`, `secret_access_key`, `token`, `region`, `endpoint`, `allow_http`, `virtual_hosted_style_request`,
    /// `skip_signature`, `instance_metadata`, and those of web identity and container credentials.
    pub fn open(uri: &str, bucket: &str, prefix: &str, options: &BTreeMap<String, String>) -> Result<Self, OpenError> {
        let refuse = |name: &str, reason: &str| Err(OpenError::Option { name: name.to_string(), reason: reason.to_string() });
        let mut client = ClientOptions::new().with_timeout(REQUEST_TIMEOUT).with_connect_timeout(CONNECT_TIMEOUT);
        let mut builder = AmazonS3Builder::from_env();
        let mut instance_metadata = false;
        for (name, value) in options {
            let lower = name.to_ascii_lowercase();
            let flag = || match value.trim() {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(OpenError::Option { name: name.clone(), reason: "it is neither true nor false".to_string() }),
            };
            match lower.strip_prefix("aws_").unwrap_or(&lower) {
                ALLOW_HTTP => client = client.with_allow_http(flag()?),
                INSTANCE_METADATA => instance_metadata = flag()?,
                known => match Key::from_str(known) {
                    Ok(key) if ALLOWED.contains(&key) => builder = builder.with_config(key, value),
                    _ => return refuse(name, "there is no such option"),
                },
            }
        }
        let given = |key: Key| builder.get_config_value(&key).is_some_and(|value| !value.is_empty());
        let unsigned = builder.get_config_value(&Key::SkipSignature).is_some_and(|value| value == "true");
        let credentials = given(Key::AccessKeyId) && given(Key::SecretAccessKey)
            || given(Key::WebIdentityTokenFile)
            || given(Key::ContainerCredentialsRelativeUri)
            || given(Key::ContainerCredentialsFullUri);
        if !credentials && !instance_metadata && !unsigned {
            return refuse(
                "access_key_id",
                "there are no credentials in options or environment (the metadata service of the machine is asked only with instance_metadata = true)",
            );
        }
        let secrets = [Key::SecretAccessKey, Key::Token, Key::AccessKeyId]
            .iter()
            .filter_map(|key| builder.get_config_value(key))
            .filter(|secret| !secret.is_empty())
            .collect();
        let secrets = Secrets(secrets);
        let endpoint = builder.get_config_value(&Key::Endpoint).unwrap_or_else(|| "of AWS S3".to_string());
        let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT };
        let built = builder
            .with_client_options(client)
            .with_retry(retry)
            .with_bucket_name(bucket)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .build();
        match built {
            Ok(inner) => Ok(Self { unproven: Some(endpoint), ..Self::over(Arc::new(inner), prefix, secrets) }),
            Err(error) => Err(OpenError::Failed { uri: uri.to_string(), message: secrets.redact(&error) }),
        }
    }

    /// Any back end that is known to honour conditional puts (one in memory, say).
    pub fn trusted(inner: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self::over(inner, prefix, Secrets(Vec::new()))
    }

    fn over(inner: Arc<dyn ObjectStore>, prefix: &str, secrets: Secrets) -> Self {
        Self { inner, prefix: prefix.trim_matches('/').to_string(), secrets, unproven: None, proof: OnceCell::new() }
    }

    fn location(&self, path: &ObjectPath) -> Path {
        if self.prefix.is_empty() { Path::from(path.as_str()) } else { Path::from(format!("{}/{path}", self.prefix)) }
    }

    /// The other way round; `None` for names that are no paths of ours.
    fn path(&self, location: &Path) -> Option<ObjectPath> {
        let whole: &str = location.as_ref();
        let rest = if self.prefix.is_empty() { whole } else { whole.strip_prefix(&self.prefix)?.strip_prefix('/')? };
        ObjectPath::parse(rest).ok()
    }

    fn failed(&self, action: Action, path: &ObjectPath, error: &Error) -> StoreError {
        let changes = matches!(action, Action::Write | Action::Delete);
        let (path, message) = (path.to_string(), self.secrets.redact(error));
        match error {
            Error::NotFound { .. } => StoreError::NotFound { path },
            Error::AlreadyExists { .. } | Error::Precondition { .. } => StoreError::Precondition { path },
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreError::Denied { action, path, message },
            Error::NotSupported { .. }
            | Error::NotImplemented { .. }
            | Error::InvalidPath { .. }
            | Error::NotModified { .. }
            | Error::UnknownConfigurationKey { .. } => StoreError::Determinate { action, path, message, transient: false },
            // The client does not tell listings that are refused from those that fail.
            _ if [" 401 ", " 403 "].iter().any(|status| message.contains(status)) && action == Action::List => {
                StoreError::Denied { action, path, message }
            }
            _ if changes => StoreError::Indeterminate { action, path, message },
            _ => StoreError::Determinate { action, path, message, transient: true },
        }
    }

    async fn put_now(&self, path: &ObjectPath, bytes: Bytes, mode: PutMode) -> StoreResult<Version> {
        let mode = match mode {
            PutMode::Create => RemotePut::Create,
            PutMode::Replace(version) => RemotePut::Update(UpdateVersion { e_tag: Some(version.0), version: None }),
            PutMode::Once => RemotePut::Overwrite,
        };
        let put = self.inner.put_opts(&self.location(path), bytes.into(), PutOptions::from(mode)).await;
        put.map(|result| Version(result.e_tag.unwrap_or_default())).map_err(|error| self.failed(Action::Write, path, &error))
    }

    /// Tries conditional puts out, once for each store.
    async fn prove(&self, path: &ObjectPath) -> StoreResult<()> {
        let Some(endpoint) = &self.unproven else { return Ok(()) };
        let try_out = || async {
            let probe = probe_beside(path, RandomState::new().build_hasher().finish());
            let put = |mode| self.put_now(&probe, Bytes::from_static(b"rheos tries conditional puts out\n"), mode);
            let created = put(PutMode::Create).await?;
            let again = put(PutMode::Create).await;
            let stale = put(PutMode::Replace(Version(format!("\"{}\"", "0".repeat(32))))).await;
            self.delete(&probe).await?;
            let refused = |outcome: &StoreResult<Version>| matches!(outcome, Err(StoreError::Precondition { .. }));
            if created.0.is_empty() || again.is_ok() || stale.is_ok() {
                let message = format!(
                    "the endpoint {endpoint} does not honour conditional puts (If-None-Match, If-Match), without which two coordinators could \
                     overwrite each other: use a store that does"
                );
                return Err(StoreError::Determinate { action: Action::Write, path: path.to_string(), message, transient: false });
            }
            match [again, stale].into_iter().find(|outcome| !refused(outcome)) {
                Some(Err(error)) => Err(error),
                _ => Ok(()),
            }
        };
        // The put itself has not been tried yet, whatever became of the probe.
        let proven = self.proof.get_or_try_init(try_out).await;
        proven.map(|_| ()).map_err(|error| match error {
            StoreError::Indeterminate { action, message, .. } => {
                StoreError::Determinate { action, path: path.to_string(), message, transient: true }
            }
            error => error,
        })
    }
}

impl Secrets {
    /// The error with its causes, without secrets, cut short.
    fn redact(&self, error: &Error) -> String {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let inner_message = inner.to_string();
            if !message.contains(&inner_message) {
                message = format!("{message}: {inner_message}");
            }
            cause = inner.source();
        }
        for secret in &self.0 {
            message = message.replace(secret.as_str(), "***");
        }
        message.chars().take(MESSAGE_CHARS).collect()
    }
}

impl Store for S3Store {
    fn get<'a>(&'a self, path: &'a ObjectPath, limit: u64) -> BoxFuture<'a, StoreResult<Object>> {
        Box::pin(async move {
            let failed = |error: Error| self.failed(Action::Read, path, &error);
            let result = self.inner.get_opts(&self.location(path), GetOptions::default()).await.map_err(failed)?;
            check_limit(path, result.meta.size, limit)?;
            let version = Version(result.meta.e_tag.clone().unwrap_or_default());
            Ok(Object { bytes: result.bytes().await.map_err(failed)?, version })
        })
    }

    fn get_range<'a>(&'a self, path: &'a ObjectPath, range: Range<u64>) -> BoxFuture<'a, StoreResult<Bytes>> {
        Box::pin(async move {
            if range.is_empty() {
                return Ok(Bytes::new());
            }
            let length = range.end - range.start;
            let short =
                |message: String| StoreError::Determinate { action: Action::Read, path: path.to_string(), message, transient: false };
            let bytes = match self.inner.get_range(&self.location(path), range.clone()).await {
                Ok(bytes) => bytes,
                // A range behind the end is an error whose kind depends on the back end: ask for the size.
                Err(error) => match self.inner.head(&self.location(path)).await {
                    Ok(meta) if meta.size < range.end => {
                        return Err(short(format!("it has {} bytes, none at {}..{}", meta.size, range.start, range.end)));
                    }
                    _ => return Err(self.failed(Action::Read, path, &error)),
                },
            };
            if (bytes.len() as u64) < length {
                return Err(short(format!("only {} of {length} bytes came", bytes.len())));
            }
            Ok(bytes)
        })
    }

    fn put<'a>(&'a self, path: &'a ObjectPath, bytes: Bytes, mode: PutMode) -> BoxFuture<'a, StoreResult<Version>> {
        Box::pin(async move {
            if mode != PutMode::Once {
                self.prove(path).await?;
            }
            self.put_now(path, bytes, mode).await
        })
    }

    fn list<'a>(&'a self, folder: &'a ObjectPath) -> BoxFuture<'a, StoreResult<Listing>> {
        Box::pin(async move {
            let result = self.inner.list_with_delimiter(Some(&self.location(folder))).await;
            let result = result.map_err(|error| self.failed(Action::List, folder, &error))?;
            let objects = result.objects.iter().filter_map(|meta| Some(Entry { path: self.path(&meta.location)?, bytes: meta.size }));
            let folders = result.common_prefixes.iter().filter_map(|prefix| Some(self.path(prefix)?.name().to_string()));
            Ok(Listing { objects: objects.collect(), folders: folders.collect() })
        })
    }

    fn delete<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move {
            match self.inner.delete(&self.location(path)).await {
                Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.failed(Action::Delete, path, &error)),
            }
        })
    }

    fn copy<'a>(&'a self, from: &'a ObjectPath, to: &'a ObjectPath) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move {
            let copied = self.inner.copy(&self.location(from), &self.location(to)).await;
            copied.map_err(|error| match self.failed(Action::Write, to, &error) {
                StoreError::NotFound { .. } => StoreError::NotFound { path: from.to_string() },
                error => error,
            })
        })
    }
}
