//! [io] Places where a test ends the process, as if it had been killed there.
//!
//! `RHEOS_FAILPOINTS` = `name=file;name=file`: whoever comes to the place `name` first creates the file and aborts; once
//! the file is there, the place is passed. Without the variable a place costs one look at a static.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

/// The variable.
pub const VARIABLE: &str = "RHEOS_FAILPOINTS";

/// Ends the process here if a test wants it to.
pub fn pass(name: &str) {
    static WANTED: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var(VARIABLE).map(|text| parse(&text)).unwrap_or_default());
    if let Some(file) = wanted.get(name)
        && std::fs::OpenOptions::new().write(true).create_new(true).open(file).is_ok()
    {
        tracing::warn!(name, "ending at a failpoint");
        std::process::abort();
    }
}

fn parse(text: &str) -> BTreeMap<String, PathBuf> {
    text.split(';').filter_map(|part| part.split_once('=')).map(|(name, file)| (name.to_owned(), PathBuf::from(file))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_places_can_be_named() {
        let wanted = parse("a.before=/x;b=/y");
        assert_eq!(wanted, BTreeMap::from([("a.before".into(), "/x".into()), ("b".into(), "/y".into())]));
        pass("nobody asked for this");
    }
}
