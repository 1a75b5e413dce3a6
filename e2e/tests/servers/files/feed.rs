//! The orders, and the folder that they grow.

use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use rheos_e2e::gateway::Gateway;
use rheos_e2e::s3::{BUCKET, client_options};

/// Orders of a file.
const IN_FILE: i64 = 50;
/// From one order to the next, ms of event time: 500 an hour.
const STEP_MS: i64 = 7_200;

/// An order.
pub(super) struct Order {
    pub(super) price: i64,
    /// `2013-01-01 10`.
    pub(super) hour: String,
    /// The rest of its time.
    rest: String,
}

/// Order `id`; the first one is of ten o'clock, the last one of some day in January 2013.
pub(super) fn order(id: i64) -> Order {
    let ms = id * STEP_MS;
    let (hours, rest) = (10 + ms / 3_600_000, ms % 3_600_000);
    Order {
        price: (id * 7919) % 1000,
        hour: format!("2013-01-{:02} {:02}", 1 + hours / 24, hours % 24),
        rest: format!("{:02}:{:02}.{:03}", rest / 60_000, rest / 1000 % 60, rest % 1000),
    }
}

/// The bucket of a server.
#[derive(Clone)]
pub(super) struct Bucket(Arc<dyn ObjectStore>);

impl Bucket {
    pub(super) fn of(gateway: &Gateway) -> Self {
        let options = client_options(&gateway.endpoint());
        let builder = options.iter().fold(AmazonS3Builder::new().with_bucket_name(BUCKET), |builder, (name, value)| {
            builder.with_config(name.parse().expect("an option"), value)
        });
        Self(Arc::new(builder.build().expect("a client")))
    }

    /// Names of all objects below a prefix, without it, sorted.
    pub(super) async fn names(&self, prefix: &str) -> Vec<String> {
        use futures::TryStreamExt;
        let found: Vec<_> = self.0.list(Some(&Path::from(prefix))).try_collect().await.expect("a listing");
        let names = found.iter().map(|object| object.location.as_ref().trim_start_matches(prefix).trim_start_matches('/').to_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    pub(super) async fn text(&self, name: &str) -> String {
        let object = self.0.get(&Path::parse(name).expect("a path")).await.expect("an object");
        String::from_utf8(object.bytes().await.expect("its bytes").to_vec()).expect("text")
    }

    async fn put(&self, name: &str, text: String) {
        self.0.put(&Path::parse(name).expect("a path"), PutPayload::from(text.into_bytes())).await.expect("a put");
    }
}

/// Writes files of orders, in their order.
pub(super) struct Feed {
    bucket: Bucket,
    orders: i64,
    next: i64,
}

impl Feed {
    pub(super) fn new(bucket: &Bucket, orders: i64) -> Self {
        Self { bucket: bucket.clone(), orders, next: 0 }
    }

    /// All files with orders below `end` that are full.
    pub(super) async fn until(&mut self, end: i64) {
        while self.next + IN_FILE <= end {
            self.file(self.next..self.next + IN_FILE).await;
            self.next += IN_FILE;
        }
    }

    /// The rest.
    pub(super) async fn all(&mut self) {
        self.until(self.orders).await;
        self.file(self.next..self.orders).await;
    }

    /// At last a file whose only order is much later and too cheap: it moves the watermark past all others, once nobody reads
    /// another file.
    pub(super) async fn last(&self) {
        self.bucket.put("in/z-last.json", "{\"id\":-1,\"price\":0,\"at\":\"2014-01-01 00:00:00\"}\n".to_owned()).await;
    }

    async fn file(&self, ids: std::ops::Range<i64>) {
        let name = format!("in/orders-{:06}.json", ids.start);
        let lines = ids.map(|id| {
            let Order { price, hour, rest } = order(id);
            format!("{{\"id\":{id},\"price\":{price},\"at\":\"{hour}:{rest}\"}}\n")
        });
        self.bucket.put(&name, lines.collect()).await;
    }
}
