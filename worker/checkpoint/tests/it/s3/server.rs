//! [io] A small S3 endpoint on loopback: atomic conditional puts, ranges, paged listing, bulk delete, copy; and faults.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Keys on one page of a listing.
const PAGE: usize = 100;
/// Largest body, bytes.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// What the endpoint does wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Behaviour {
    pub(super) ignores_if_none_match: bool,
    pub(super) ignores_if_match: bool,
    /// The first put of a key with this in it happens, and is answered with 500.
    pub(super) fails_after_put: Option<&'static str>,
    /// Every request is answered with 403 and this body.
    pub(super) denies_with: Option<String>,
}

#[derive(Debug, Default)]
struct Content {
    objects: BTreeMap<String, (Vec<u8>, u64)>,
    puts: u64,
    failures: u64,
}

/// The endpoint; it lives as long as the test's runtime.
pub(super) struct Server {
    address: std::net::SocketAddr,
    content: Arc<Mutex<Content>>,
}

struct Request {
    method: String,
    key: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

type Response = (u16, Vec<(&'static str, String)>, Vec<u8>);

impl Server {
    pub(super) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let content = Arc::new(Mutex::new(Content::default()));
        let shared = Arc::clone(&content);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, behaviour.clone(), Arc::clone(&shared)));
            }
        });
        Self { address, content }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.content.lock().unwrap().objects.keys().cloned().collect()
    }

    pub(super) fn failures(&self) -> u64 {
        self.content.lock().unwrap().failures
    }
}

async fn serve(stream: TcpStream, behaviour: Behaviour, content: Arc<Mutex<Content>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let (status, headers, body) = answer(&request, &behaviour, &mut content.lock().unwrap());
        let mut head = format!("HTTP/1.1 {status} -\r\n");
        if !headers.iter().any(|(name, _)| *name == "Content-Length") {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let body = if request.method == "HEAD" { Vec::new() } else { body };
        if stream.write_all(&[head.as_bytes(), b"\r\n", &body].concat()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|bytes| *bytes > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_string());
    }
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    assert!(length <= MAX_BODY);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let decode = |text: &str| text.replace("%2F", "/").replace("%2f", "/");
    let pair =
        |pair: &str| pair.split_once('=').map_or((pair.to_string(), String::new()), |(name, value)| (name.to_string(), decode(value)));
    let query = query.split('&').map(pair).collect();
    let key = decode(path.trim_start_matches("/bucket").trim_start_matches('/'));
    Some(Request { method, key, query, headers, body })
}

fn answer(request: &Request, behaviour: &Behaviour, content: &mut Content) -> Response {
    if let Some(body) = &behaviour.denies_with {
        return (403, Vec::new(), body.clone().into_bytes());
    }
    match request.method.as_str() {
        "PUT" => put(request, behaviour, content),
        "GET" if request.query.contains_key("list-type") => list(request, content),
        "GET" | "HEAD" => get(request, content),
        "DELETE" => {
            content.objects.remove(&request.key);
            (204, Vec::new(), Vec::new())
        }
        "POST" if request.query.contains_key("delete") => {
            let text = String::from_utf8(request.body.clone()).unwrap();
            let mut deleted = String::new();
            for key in text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
                content.objects.remove(key);
                deleted += &format!("<Deleted><Key>{key}</Key></Deleted>");
            }
            (200, Vec::new(), format!("<DeleteResult>{deleted}</DeleteResult>").into_bytes())
        }
        _ => (501, Vec::new(), Vec::new()),
    }
}

fn etag(put: u64) -> String {
    format!("\"{put:032x}\"")
}

fn put(request: &Request, behaviour: &Behaviour, content: &mut Content) -> Response {
    let body = match request.headers.get("x-amz-copy-source") {
        None => request.body.clone(),
        Some(source) => {
            let source = source.replace("%2F", "/");
            match content.objects.get(source.trim_start_matches('/').trim_start_matches("bucket/")) {
                Some((bytes, _)) => bytes.clone(),
                None => return (404, Vec::new(), Vec::new()),
            }
        }
    };
    let current = content.objects.get(&request.key).map(|(_, put)| etag(*put));
    if request.headers.contains_key("if-none-match") && current.is_some() && !behaviour.ignores_if_none_match {
        return (412, Vec::new(), Vec::new());
    }
    if let Some(wanted) = request.headers.get("if-match").filter(|_| !behaviour.ignores_if_match) {
        match current {
            None => return (404, Vec::new(), Vec::new()),
            Some(current) if current != *wanted => return (412, Vec::new(), Vec::new()),
            Some(_) => {}
        }
    }
    content.puts += 1;
    let put = content.puts;
    content.objects.insert(request.key.clone(), (body, put));
    if content.failures == 0 && behaviour.fails_after_put.is_some_and(|part| request.key.contains(part)) {
        content.failures += 1;
        return (500, Vec::new(), b"<Error><Code>InternalError</Code></Error>".to_vec());
    }
    let copied = format!("<CopyObjectResult><ETag>{}</ETag></CopyObjectResult>", etag(put));
    let body = if request.headers.contains_key("x-amz-copy-source") { copied.into_bytes() } else { Vec::new() };
    (200, vec![("ETag", etag(put))], body)
}

fn get(request: &Request, content: &Content) -> Response {
    let Some((bytes, put)) = content.objects.get(&request.key) else { return (404, Vec::new(), Vec::new()) };
    let mut headers = vec![("ETag", etag(*put)), ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT".to_string())];
    let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")).and_then(|range| range.split_once('-'));
    let Some((first, last)) = range else {
        headers.push(("Content-Length", bytes.len().to_string()));
        return (200, headers, bytes.clone());
    };
    let first: usize = first.parse().unwrap();
    let end = last.parse().map_or(bytes.len(), |last: usize| bytes.len().min(last + 1));
    if first >= bytes.len() {
        return (416, Vec::new(), Vec::new());
    }
    headers.push(("Content-Range", format!("bytes {first}-{}/{}", end - 1, bytes.len())));
    (206, headers, bytes[first..end].to_vec())
}

fn list(request: &Request, content: &Content) -> Response {
    let prefix = request.query.get("prefix").cloned().unwrap_or_default();
    let after = request.query.get("continuation-token").cloned().unwrap_or_default();
    let (mut body, mut folders, mut count, mut next) = (String::new(), std::collections::BTreeSet::new(), 0, None);
    for (key, (bytes, put)) in content.objects.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix)) {
        if *key <= after {
            continue;
        }
        if count == PAGE {
            break;
        }
        (count, next) = (count + 1, Some(key.clone()));
        match key[prefix.len()..].split_once('/') {
            Some((folder, _)) => {
                folders.insert(format!("{prefix}{folder}/"));
            }
            None => {
                body += &format!(
                    "<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                    etag(*put),
                    bytes.len()
                );
            }
        }
    }
    for folder in folders {
        body += &format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>");
    }
    if let Some(next) = next.filter(|_| count == PAGE) {
        body += &format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>");
    }
    (200, Vec::new(), format!("<ListBucketResult>{body}</ListBucketResult>").into_bytes())
}
