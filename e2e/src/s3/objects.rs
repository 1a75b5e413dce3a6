//! [io] The objects of the S3 server, and its operations.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use futures::TryStreamExt;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CopyObjectInput,
    CopyObjectOutput, CopyObjectResult, CopySource, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput,
    DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, GetObjectInput, GetObjectOutput,
    HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Object, PutObjectInput, PutObjectOutput, StreamingBlob,
    Timestamp, UploadPartInput, UploadPartOutput,
};
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};

use super::BUCKET;

/// A page of a listing, keys.
const LIST_PAGE: usize = 1_000;

/// What goes wrong with the next matching request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with 503 and has no effect.
    Refused,
    /// It takes effect, and the client hears 500.
    Unheard,
    /// It is refused with 403.
    Denied,
}

#[derive(Debug, Clone)]
struct Stored {
    bytes: Bytes,
    tag: String,
    modified: SystemTime,
}

/// The content of the bucket, and the script of faults.
#[derive(Debug, Default)]
pub struct Objects {
    stored: BTreeMap<String, Stored>,
    uploads: BTreeMap<String, BTreeMap<i32, Bytes>>,
    faults: VecDeque<(String, Fault)>,
    tags: u64,
    /// Writing requests seen (put, copy, complete, delete), by key.
    pub writes: Vec<String>,
    /// While set, every request is refused: the store is away.
    pub away: bool,
}

impl Objects {
    /// The next write whose key contains `part` meets this fault.
    pub fn plan(&mut self, part: &str, fault: Fault) {
        self.faults.push_back((part.to_owned(), fault));
    }

    /// Keys, sorted.
    pub fn keys(&self) -> Vec<String> {
        self.stored.keys().cloned().collect()
    }

    /// An object's bytes.
    pub fn get(&self, key: &str) -> Option<Bytes> {
        self.stored.get(key).map(|stored| stored.bytes.clone())
    }

    /// Puts an object behind the client's back (corruption, foreign files).
    pub fn put(&mut self, key: &str, bytes: impl Into<Bytes>) -> String {
        self.tags += 1;
        let tag = format!("t{}", self.tags);
        self.stored.insert(key.to_owned(), Stored { bytes: bytes.into(), tag: tag.clone(), modified: SystemTime::now() });
        tag
    }

    /// Removes an object.
    pub fn remove(&mut self, key: &str) -> bool {
        self.stored.remove(key).is_some()
    }

    /// Multipart uploads that were neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.uploads.len()
    }

    fn fault(&mut self, key: &str) -> Option<Fault> {
        let position = self.faults.iter().position(|(part, _)| key.contains(part.as_str()))?;
        self.faults.remove(position).map(|(_, fault)| fault)
    }

    /// Runs a write under the script of faults and under its conditions.
    fn write<T>(&mut self, key: &str, effect: impl FnOnce(&mut Self) -> S3Result<T>) -> S3Result<T> {
        if self.away {
            return Err(s3_error!(ServiceUnavailable, "the store is away"));
        }
        self.writes.push(key.to_owned());
        match self.fault(key) {
            None => effect(self),
            Some(Fault::Refused) => Err(s3_error!(SlowDown, "planned fault")),
            Some(Fault::Denied) => Err(s3_error!(AccessDenied, "planned fault")),
            Some(Fault::Unheard) => effect(self).and_then(|_| Err(s3_error!(InternalError, "planned fault"))),
        }
    }

    fn check(&self, key: &str, if_match: Option<&ETagCondition>, if_none_match: Option<&ETagCondition>) -> S3Result<()> {
        let current = self.stored.get(key).map(|stored| stored.tag.as_str());
        let matches = |condition: &ETagCondition| match condition {
            ETagCondition::Any => current.is_some(),
            ETagCondition::ETag(tag) => current == Some(tag.value()),
        };
        if if_match.is_some_and(|condition| !matches(condition)) || if_none_match.is_some_and(matches) {
            return Err(s3_error!(PreconditionFailed));
        }
        Ok(())
    }

    fn read(&self, bucket: &str, key: &str) -> S3Result<Stored> {
        if self.away {
            return Err(s3_error!(ServiceUnavailable, "the store is away"));
        }
        if bucket != BUCKET {
            return Err(s3_error!(NoSuchBucket));
        }
        self.stored.get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey))
    }
}

/// The operations, over shared objects.
pub(super) struct Server(pub(super) Arc<Mutex<Objects>>);

impl Server {
    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(body) = body else { return Ok(Bytes::new()) };
    let chunks: Vec<Bytes> = body.try_collect().await.map_err(|_| s3_error!(IncompleteBody))?;
    Ok(chunks.concat().into())
}

fn reply<T>(output: T) -> S3Result<S3Response<T>> {
    Ok(S3Response::new(output))
}

#[async_trait::async_trait]
impl S3 for Server {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let bytes = collect(input.body).await?;
        if input.bucket != BUCKET {
            return Err(s3_error!(NoSuchBucket));
        }
        let tag = self.lock().write(&input.key, |objects| {
            objects.check(&input.key, input.if_match.as_ref(), input.if_none_match.as_ref())?;
            Ok(objects.put(&input.key, bytes))
        })?;
        reply(PutObjectOutput { e_tag: Some(ETag::Strong(tag)), ..Default::default() })
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let stored = self.lock().read(&input.bucket, &input.key)?;
        let size = stored.bytes.len() as u64;
        let (bytes, content_range) = match input.range {
            None => (stored.bytes, None),
            Some(range) => {
                let range = range.check(size).map_err(|_| s3_error!(InvalidRange))?;
                let header = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                (stored.bytes.slice(range.start as usize..range.end as usize), Some(header))
            }
        };
        reply(GetObjectOutput {
            content_length: i64::try_from(bytes.len()).ok(),
            content_range,
            body: Some(StreamingBlob::from(Body::from(bytes))),
            e_tag: Some(ETag::Strong(stored.tag)),
            last_modified: Some(Timestamp::from(stored.modified)),
            ..Default::default()
        })
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let stored = self.lock().read(&request.input.bucket, &request.input.key)?;
        reply(HeadObjectOutput {
            content_length: i64::try_from(stored.bytes.len()).ok(),
            e_tag: Some(ETag::Strong(stored.tag)),
            last_modified: Some(Timestamp::from(stored.modified)),
            ..Default::default()
        })
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let key = request.input.key;
        self.lock().write(&key, |objects| {
            objects.remove(&key);
            Ok(())
        })?;
        reply(DeleteObjectOutput::default())
    }

    async fn delete_objects(&self, request: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let mut deleted = Vec::new();
        for object in request.input.delete.objects {
            self.lock().write(&object.key, |objects| {
                objects.remove(&object.key);
                Ok(())
            })?;
            deleted.push(DeletedObject { key: Some(object.key), ..Default::default() });
        }
        reply(DeleteObjectsOutput { deleted: Some(deleted), ..Default::default() })
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = request.input;
        let CopySource::Bucket { bucket, key: from, .. } = &input.copy_source else { return Err(s3_error!(NotImplemented)) };
        let tag = self.lock().write(&input.key, |objects| {
            let bytes = objects.read(bucket, from)?.bytes;
            Ok(objects.put(&input.key, bytes))
        })?;
        let result = CopyObjectResult { e_tag: Some(ETag::Strong(tag)), ..Default::default() };
        reply(CopyObjectOutput { copy_object_result: Some(result), ..Default::default() })
    }

    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let objects = self.lock();
        if objects.away {
            return Err(s3_error!(ServiceUnavailable, "the store is away"));
        }
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input.continuation_token.clone().or(input.start_after.clone()).unwrap_or_default();
        let delimiter = input.delimiter.clone().unwrap_or_default();
        let mut contents = Vec::new();
        let mut common = std::collections::BTreeSet::new();
        let mut last = None;
        let mut truncated = false;
        for (key, stored) in objects.stored.range(after.clone()..).filter(|(key, _)| **key > after && key.starts_with(&prefix)) {
            if contents.len() + common.len() >= LIST_PAGE {
                truncated = true;
                break;
            }
            last = Some(key.clone());
            let rest = &key[prefix.len()..];
            match rest.find(&delimiter) {
                Some(end) if !delimiter.is_empty() => {
                    common.insert(format!("{prefix}{}{delimiter}", &rest[..end]));
                }
                _ => contents.push(Object {
                    key: Some(key.clone()),
                    size: i64::try_from(stored.bytes.len()).ok(),
                    e_tag: Some(ETag::Strong(stored.tag.clone())),
                    last_modified: Some(Timestamp::from(stored.modified)),
                    ..Default::default()
                }),
            }
        }
        let common_prefixes = common.into_iter().map(|prefix| s3s::dto::CommonPrefix { prefix: Some(prefix) }).collect();
        reply(ListObjectsV2Output {
            name: Some(input.bucket),
            key_count: i32::try_from(contents.len()).ok(),
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            is_truncated: Some(truncated),
            next_continuation_token: if truncated { last } else { None },
            prefix: input.prefix,
            ..Default::default()
        })
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let mut objects = self.lock();
        objects.tags += 1;
        let upload_id = format!("u{}", objects.tags);
        objects.uploads.insert(upload_id.clone(), BTreeMap::new());
        let (bucket, key) = (request.input.bucket, request.input.key);
        reply(CreateMultipartUploadOutput { bucket: Some(bucket), key: Some(key), upload_id: Some(upload_id), ..Default::default() })
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let bytes = collect(input.body).await?;
        let mut objects = self.lock();
        let parts = objects.uploads.get_mut(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        parts.insert(input.part_number, bytes);
        reply(UploadPartOutput { e_tag: Some(ETag::Strong(format!("p{}", input.part_number))), ..Default::default() })
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let tag = self.lock().write(&input.key, |objects| {
            objects.check(&input.key, input.if_match.as_ref(), input.if_none_match.as_ref())?;
            let parts = objects.uploads.remove(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
            let parts: Vec<Bytes> = parts.into_values().collect();
            Ok(objects.put(&input.key, parts.concat()))
        })?;
        reply(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(tag)),
            ..Default::default()
        })
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.lock().uploads.remove(&request.input.upload_id);
        reply(AbortMultipartUploadOutput::default())
    }
}
