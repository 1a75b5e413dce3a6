//! [pure] Storage URIs and endpoints: form only, nothing is opened.

/// Longest URI that is accepted, characters.
pub const URI_LIMIT: usize = 2048;

/// Schemes under which checkpoints can be kept.
pub const STORAGE_SCHEMES: [&str; 2] = ["s3", "file"];

/// What is wrong with a URI, and what would be right.
pub type Problem = (String, &'static str);

/// A URI in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parts<'a> {
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
}

fn split(uri: &str) -> Result<Parts<'_>, Problem> {
    let shape = "write scheme://host/path";
    if uri.chars().count() > URI_LIMIT {
        return Err((format!("is longer than {URI_LIMIT} characters"), "use a shorter one"));
    }
    if uri.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(("holds spaces, backslashes or control characters".to_owned(), shape));
    }
    let (scheme, rest) = uri.split_once("://").ok_or_else(|| (format!("{uri:?} is no URI"), shape))?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        // The text itself is left out of the message: it holds a secret.
        return Err(("holds credentials".to_owned(), "remove user:password@ and use credentialsSecretRef"));
    }
    if uri.contains(['?', '#']) {
        return Err(("has a query or a fragment".to_owned(), "remove everything from ? or # on"));
    }
    if path.split('/').any(|part| part == ".." || part == ".") || path.to_ascii_lowercase().contains("%2e") {
        return Err((format!("{uri:?} walks through . or .."), "write the path out"));
    }
    Ok(Parts { scheme, authority, path })
}

/// Checks the URI of checkpoint storage or of a savepoint: `s3://bucket/prefix` or `file:///absolute/path`.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn storage(uri: &str) -> Result<(), Problem> {
    let parts = split(uri)?;
    match parts.scheme {
        "s3" if parts.authority.is_empty() => Err(("names no bucket".to_owned(), "write s3://bucket/prefix")),
        "s3" if !is_bucket(parts.authority) => {
            Err((format!("{:?} is no bucket name", parts.authority), "use lower-case letters, digits, inner dots and dashes"))
        }
        "file" if !parts.authority.is_empty() || parts.path.len() < 2 => {
            Err(("is no absolute path".to_owned(), "write file:///absolute/path, with three slashes"))
        }
        "s3" | "file" => Ok(()),
        other => Err((format!("scheme {other:?} is not supported"), "use s3:// or file://")),
    }
}

fn is_bucket(name: &str) -> bool {
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.starts_with(ends) && name.ends_with(ends) && name.chars().all(|c| ends(c) || matches!(c, '.' | '-'))
}

/// Checks the address of a storage server: `https://host[:port]` or `http://host[:port]`.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn endpoint(uri: &str) -> Result<(), Problem> {
    let parts = split(uri)?;
    let shape = "write https://host:port";
    if !matches!(parts.scheme, "http" | "https") {
        return Err((format!("scheme {:?} is not supported", parts.scheme), shape));
    }
    // Colons inside brackets are those of an IPv6 address.
    let (host, port) = match parts.authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (parts.authority, None),
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let numbered = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':');
    let good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => !address.is_empty() && address.chars().all(numbered),
        None => !host.is_empty() && host.chars().all(named),
    };
    if !good {
        return Err(("names no host".to_owned(), shape));
    }
    let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    if port.is_some_and(|port| !digits(port) || port.parse::<u16>().is_err()) {
        return Err(("has no valid port".to_owned(), shape));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_uris() {
        for good in ["s3://bucket", "s3://bucket/a/b", "file:///var/rheos", "s3://my.bucket-1/x"] {
            assert_eq!(storage(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "bucket/a",
            "s3://",
            "s3:///a",
            "S3://b",
            "file://a/b",
            "file:///",
            "gs://b",
            "http://h/b",
            "s3://u:p@b/x",
            "s3://b/../c",
            "s3://b/%2E%2e/c",
            "s3://b/a?x=1",
            "s3://b/a#f",
            "s3://b/a b",
            "s3://b\\c",
            "s3://B/x",
            "s3://../x",
            "s3://-b/x",
        ] {
            assert!(storage(bad).is_err(), "{bad}");
        }
        assert!(storage(&format!("s3://b/{}", "a".repeat(URI_LIMIT - 7))).is_ok());
        assert!(storage(&format!("s3://b/{}", "a".repeat(URI_LIMIT - 6))).is_err());
    }

    #[test]
    fn endpoints() {
        for good in ["http://127.0.0.1:9000", "https://s3.example.org", "https://[::1]:9000", "https://[::1]"] {
            assert_eq!(endpoint(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "s3.example.org",
            "ftp://h",
            "https://",
            "https://:9000",
            "https://h:0",
            "https://h:99999",
            "https://u:p@h",
            "https://h:x",
            "https://h:+1",
            "https://a:b:1",
            "https://[]",
            "https://h/../x",
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials_never_reach_the_message() {
        let (problem, hint) = endpoint("https://user:geheim@host").unwrap_err();
        assert!(!problem.contains("geheim") && !hint.contains("geheim"));
    }
}
