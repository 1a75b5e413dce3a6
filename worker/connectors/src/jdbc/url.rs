//! [pure] Where a database is: URLs as libpq and the JDBC driver have them.
//!
//! Invariant: no message shows a URL, for it may hold a password that does not belong there.

use std::time::Duration;

use rheos_api::secret_reference::{CLOSE, OPEN};

/// PostgreSQL's own.
const DEFAULT_PORT: u16 = 5432;
/// A server that does not answer for so long is tried again, unless told.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How sessions are shown in `pg_stat_activity`, unless told.
const DEFAULT_APPLICATION: &str = "rheos";
/// Parameters that are understood.
const KNOWN: &str = "sslmode, sslrootcert, ssl, connect_timeout, application_name, options, currentSchema, user, password";

/// How much a server has to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsMode {
    /// Nothing; in the clear.
    Disable,
    /// Encrypted if the server can.
    Prefer,
    /// Encrypted; anybody could be the server.
    Require,
    /// Its certificate is signed by one of ours, whatever its name.
    VerifyCa,
    /// And it is for the host's name.
    VerifyFull,
}

/// A database; values may hold references to Secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Tried in order.
    pub(crate) hosts: Vec<(String, u16)>,
    pub(crate) database: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) tls: TlsMode,
    /// A file of certificates, or their text; `None`: the public ones.
    pub(crate) roots: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) application: String,
    /// Server options, `-c name=value`.
    pub(crate) options: Option<String>,
}

/// Reads a URL: `postgres://`, `postgresql://` or `jdbc:postgresql://`.
///
/// # Errors
/// What is wrong, without the URL.
pub(crate) fn parse(url: &str) -> Result<Address, String> {
    let plain = url.strip_prefix("jdbc:").unwrap_or(url);
    let rest = ["postgresql://", "postgres://"].iter().find_map(|scheme| plain.strip_prefix(scheme));
    let rest =
        rest.ok_or("expected postgresql://host:port/database, with or without 'jdbc:' in front; other databases are not supported")?;
    let (place, parameters) = cut(rest, '?').unwrap_or((rest, ""));
    let (authority, database) = cut(place, '/').unwrap_or((place, ""));
    let (credentials, hosts) = match masked(authority).rfind('@') {
        Some(at) => (&authority[..at], &authority[at + 1..]),
        None => ("", authority),
    };
    let mut address = Address {
        hosts: hosts.split(',').map(host).collect::<Result<_, _>>()?,
        database: decoded(database)?,
        user: None,
        password: None,
        tls: TlsMode::Prefer,
        roots: None,
        connect_timeout: DEFAULT_CONNECT_TIMEOUT,
        application: DEFAULT_APPLICATION.to_owned(),
        options: None,
    };
    if address.database.is_empty() {
        return Err("it names no database: postgresql://host:port/database".into());
    }
    let (user, password) = cut(credentials, ':').unwrap_or((credentials, ""));
    address.user = reference(user)?;
    address.password = reference(password)?;
    let mut parameters = parameters;
    while !parameters.is_empty() {
        let (one, others) = cut(parameters, '&').unwrap_or((parameters, ""));
        let (name, value) = cut(one, '=').unwrap_or((one, ""));
        parameter(&mut address, name, value)?;
        parameters = others;
    }
    Ok(address)
}

fn parameter(address: &mut Address, name: &str, value: &str) -> Result<(), String> {
    match name {
        "user" => address.user = reference(value)?,
        "password" => address.password = reference(value)?,
        "sslmode" => {
            address.tls = match value {
                "disable" => TlsMode::Disable,
                "allow" | "prefer" => TlsMode::Prefer,
                "require" => TlsMode::Require,
                "verify-ca" => TlsMode::VerifyCa,
                "verify-full" => TlsMode::VerifyFull,
                _ => return Err("sslmode is disable, prefer, require, verify-ca or verify-full".into()),
            };
        }
        // The JDBC driver's short form.
        "ssl" => address.tls = if value == "false" { TlsMode::Disable } else { TlsMode::VerifyFull },
        "sslrootcert" => address.roots = Some(decoded(value)?).filter(|value| value != "system"),
        "connect_timeout" | "connectTimeout" => {
            let seconds = value.parse::<u32>().ok().filter(|seconds| *seconds > 0).ok_or("connect_timeout is a number of seconds")?;
            address.connect_timeout = Duration::from_secs(seconds.into());
        }
        "application_name" | "ApplicationName" => address.application = decoded(value)?,
        "options" => address.options = Some(decoded(value)?),
        "currentSchema" => {
            let schemas = decoded(value)?;
            // A blank would end the option.
            address.options = Some(format!("-c search_path={}", schemas.replace('\\', "\\\\").replace(' ', "\\ ")));
        }
        _ => return Err(format!("it has a parameter that is not known here; known ones: {KNOWN}")),
    }
    Ok(())
}

/// A user or password, which only a Secret may hold.
fn reference(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let inner = text.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix(CLOSE));
    if inner.is_some_and(|inner| !inner.contains(CLOSE)) {
        return Ok(Some(text.to_owned()));
    }
    Err("it holds a user or a password: take them out, and give the options 'username' and 'password' = '${secret:name/key}'".into())
}

fn host(text: &str) -> Result<(String, u16), String> {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) => (name, port.strip_prefix(':').unwrap_or(port)),
        None => cut(text, ':').unwrap_or((text, "")),
    };
    if name.is_empty() {
        return Err("it names no host: postgresql://host:port/database".into());
    }
    let port = if port.is_empty() { Some(DEFAULT_PORT) } else { port.parse().ok() };
    Ok((name.to_owned(), port.ok_or("a port is a number up to 65535")?))
}

/// Both sides of the first `c` that is not within a reference.
fn cut(text: &str, c: char) -> Option<(&str, &str)> {
    let at = masked(text).find(c)?;
    Some((&text[..at], &text[at + c.len_utf8()..]))
}

/// References blotted out, at their length.
fn masked(text: &str) -> String {
    let (mut mask, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(OPEN) {
        let length = rest[at..].find(CLOSE).map_or(rest.len() - at, |end| end + CLOSE.len_utf8());
        mask.push_str(&rest[..at]);
        mask.extend(std::iter::repeat_n('x', length));
        rest = &rest[at + length..];
    }
    mask + rest
}

/// `%20` and the like.
fn decoded(text: &str) -> Result<String, String> {
    let bad = || "a % in it is not followed by two hexadecimal digits of UTF-8 text".to_owned();
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(byte) = bytes.get(at) {
        if *byte == b'%' {
            let digits = text.get(at + 1..at + 3).ok_or_else(bad)?;
            out.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
            at += 3;
        } else {
            out.push(*byte);
            at += 1;
        }
    }
    String::from_utf8(out).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_both_kinds_name_the_same_place() {
        for url in ["postgres://db:5433/shop", "postgresql://db:5433/shop", "jdbc:postgresql://db:5433/shop", "postgres://db:5433/sh%6Fp"] {
            let address = parse(url).unwrap();
            assert_eq!((address.hosts, address.database.as_str()), (vec![("db".to_owned(), 5433)], "shop"), "{url}");
        }
        let several = parse("postgres://a,[::1]:1,c:2/d?sslmode=verify-full&sslrootcert=/x&application_name=a%20b").unwrap();
        assert_eq!(several.hosts, [("a".to_owned(), 5432), ("::1".to_owned(), 1), ("c".to_owned(), 2)]);
        assert_eq!((several.tls, several.roots.as_deref(), several.application.as_str()), (TlsMode::VerifyFull, Some("/x"), "a b"));
        assert_eq!(parse("postgres://a/d?currentSchema=my sales").unwrap().options.as_deref(), Some("-c search_path=my\\ sales"));
    }

    #[test]
    fn only_secrets_may_hold_credentials_and_no_message_shows_them() {
        let address = parse("postgres://${secret:db/user}:${secret:db/pass@word}@h/d?sslrootcert=${secret:db/ca?&}").unwrap();
        assert_eq!((address.user.as_deref(), address.password.as_deref()), (Some("${secret:db/user}"), Some("${secret:db/pass@word}")));
        assert_eq!((address.roots.as_deref(), address.hosts[0].0.as_str()), (Some("${secret:db/ca?&}"), "h"));
        for url in
            ["postgres://bob:hunter2@h/d", "postgres://bob@h/d", "postgres://h/d?password=hunter2", "postgres://${secret:a/b}hunter2@h/d"]
        {
            let message = parse(url).unwrap_err();
            assert!(message.contains("'username' and 'password'") && !message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn what_is_no_url_is_told() {
        let cases = [
            ("mysql://h/d", "other databases"),
            ("postgres://h", "no database"),
            ("postgres:///d", "no host"),
            ("postgres://h:99999/d", "a port"),
            ("postgres://h/d?sslmode=maybe", "sslmode is"),
            ("postgres://h/d?sslkey=/k", "known ones"),
            ("postgres://h/d%zz", "hexadecimal"),
        ];
        for (url, part) in cases {
            let message = parse(url).unwrap_err();
            assert!(message.contains(part), "{url}: {message}");
        }
    }
}
