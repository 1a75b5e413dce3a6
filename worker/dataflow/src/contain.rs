//! [pure] Decoders of other crates that may panic at bytes which no writer makes: contained, so that they are bad input.
//!
//! A panic anywhere else ends the engine process (it is a bug, and its state is not to be trusted). Within [`contain`] it
//! is an error: what the decoder has touched is dropped with it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a decoder; when it panics, what it said.
///
/// # Errors
/// The panic's text.
pub fn contain<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    let outer = CONTAINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(decode));
    CONTAINED.set(outer);
    result.map_err(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("the decoder gave up: {}", text.unwrap_or_default())
    })
}

/// Whether this thread is within [`contain`]: its panic is no end of the process.
pub fn is_contained() -> bool {
    CONTAINED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_within_is_an_error_with_its_text() {
        assert_eq!(contain(|| 7), Ok(7));
        let said = contain(|| contain(|| 7).map(|seven| assert_eq!(seven, 8, "no eight")));
        assert!(said.unwrap_err().contains("no eight") && !is_contained());
        assert_eq!(contain(is_contained), Ok(true));
    }
}
