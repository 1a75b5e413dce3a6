//! [pure] The token of a job: who holds it may ask its pods for anything.

use std::fmt;
use std::hint::black_box;

/// Longest token, bytes.
pub const TOKEN_LIMIT: usize = 512;
/// Shortest token, bytes.
pub const TOKEN_LEAST: usize = 16;

/// A secret that is sent as `Authorization: Bearer …`. It is never shown.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Takes the content of a token's file; white space around it does not count.
    ///
    /// # Errors
    /// It is too short, too long, or cannot be sent in a header. The token is not repeated.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() < TOKEN_LEAST || text.len() > TOKEN_LIMIT || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("it is no token: use {TOKEN_LEAST} to {TOKEN_LIMIT} visible ASCII characters"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The token itself, to be sent.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `given` is this token, in a time that tells nothing but the length.
    pub fn matches(&self, given: &str) -> bool {
        let (own, given) = (self.0.as_bytes(), given.as_bytes());
        own.len() == given.len() && black_box(own.iter().zip(given).fold(0, |all, (a, b)| black_box(all | (a ^ b)))) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_matches_and_it_is_never_shown() {
        let token = Token::parse(" 0123456789abcdef\n").unwrap();
        assert!(token.matches("0123456789abcdef"));
        for wrong in ["", "0123456789abcdee", "1123456789abcdef", "0123456789abcdef0", "0123456789abcde"] {
            assert!(!token.matches(wrong), "{wrong}");
        }
        assert!(!format!("{token:?}").contains("0123"));
        for text in ["", "short", "0123456789 abcdef", "0123456789abcdéf"] {
            assert!(Token::parse(text).is_err(), "{text}");
        }
    }
}
