//! [pure] Limits on a SQL text, checked before anything recursive sees it.
//!
//! The depth of every syntax tree that the parser can build is bounded here by counting tokens, because parsing,
//! binding, printing and dropping a tree all recurse.

use datafusion_expr::sqlparser::{
    keywords::Keyword,
    tokenizer::{Span, Token, TokenWithSpan},
};

use crate::error::{Fault, Result, fail_hint, point};

/// Bytes of a SQL text, at most.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Parentheses, brackets and CASE expressions inside each other, at most.
pub const MAX_NESTING: usize = 64;
/// Queries inside each other, at most: the parser needs a lot of stack for each.
pub const MAX_QUERY_NESTING: usize = 16;
/// Height of a syntax tree, at most, estimated from the tokens: nesting plus operators in a row.
pub const MAX_TREE_HEIGHT: usize = 256;
/// Nodes of a job's plan, at most (a view counts wherever it is used).
pub const MAX_PLAN_NODES: usize = 1_000;
/// Nodes of a plan on the way from a sink to a source, at most.
pub const MAX_PLAN_DEPTH: usize = 200;
/// Columns of a table or a query, at most (fields of nested rows count).
pub const MAX_COLUMNS: usize = 256;
/// Statements of a script, at most.
pub const MAX_STATEMENTS: usize = 1_000;

/// Refuses texts that are too long or hold characters that make them look different from what they are.
pub(crate) fn check_text(sql: &str) -> Result<()> {
    if sql.len() > MAX_TEXT_BYTES {
        let message = format!("the SQL text is {} bytes long; the limit is {MAX_TEXT_BYTES}", sql.len());
        return fail_hint(point(1, 1), message, "split the job");
    }
    let (mut line, mut column) = (1, 0);
    for c in sql.chars() {
        column += 1;
        let bidirectional = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}');
        if bidirectional || (c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            let message = format!("control character U+{:04X} in the SQL text", c as u32);
            return fail_hint(point(line, column), message, "remove it");
        }
        if c == '\n' {
            (line, column) = (line + 1, 0);
        }
    }
    Ok(())
}

/// One level of nesting: the height of what was closed inside it, and the operators of the running item.
#[derive(Default)]
struct Level {
    case: bool,
    /// Whether it holds a SELECT.
    query: bool,
    /// Highest finished item.
    highest: usize,
    /// Height below the running item's operators.
    inner: usize,
    chain: usize,
}

impl Level {
    fn height(&self) -> usize {
        self.highest.max(self.inner + self.chain)
    }

    fn next_item(&mut self) {
        (self.highest, self.inner, self.chain) = (self.height(), 0, 0);
    }
}

/// Bounds nesting and tree height of one statement.
pub(crate) fn check_nesting(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut levels = vec![Level::default()];
    let mut before = Keyword::NoKeyword;
    for TokenWithSpan { token, span } in tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => open(&mut levels, false, *span)?,
            Token::RParen | Token::RBracket | Token::RBrace => close(&mut levels, false),
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::CASE => open(&mut levels, true, *span)?,
                Keyword::END => close(&mut levels, true),
                Keyword::SELECT => query(&mut levels, *span)?,
                // The one of IS DISTINCT FROM goes on with the expression.
                Keyword::FROM if before == Keyword::DISTINCT => {}
                Keyword::FROM | Keyword::WHERE | Keyword::HAVING | Keyword::GROUP => next_item(&mut levels),
                keyword if is_operator(keyword) => chain(&mut levels, *span)?,
                _ => {}
            },
            Token::Comma => next_item(&mut levels),
            token if is_operator_token(token) => chain(&mut levels, *span)?,
            _ => {}
        }
        before = match token {
            Token::Word(word) => word.keyword,
            _ => Keyword::NoKeyword,
        };
    }
    Ok(())
}

fn open(levels: &mut Vec<Level>, case: bool, span: Span) -> Result<()> {
    // The statement itself is the first level.
    if levels.len() > MAX_NESTING {
        let message = format!("more than {MAX_NESTING} parentheses, brackets or CASE expressions inside each other");
        return fail_hint(span, message, "use views");
    }
    levels.push(Level { case, ..Level::default() });
    Ok(())
}

fn query(levels: &mut [Level], span: Span) -> Result<()> {
    if let Some(level) = levels.last_mut() {
        level.query = true;
    }
    next_item(levels);
    if levels.iter().filter(|level| level.query).count() > MAX_QUERY_NESTING {
        return fail_hint(span, format!("more than {MAX_QUERY_NESTING} queries inside each other"), "use views");
    }
    Ok(())
}

fn close(levels: &mut Vec<Level>, case: bool) {
    // What does not match is for the parser to report.
    if levels.len() > 1 && levels.last().is_some_and(|level| level.case == case) {
        let height = levels.pop().map_or(0, |level| level.height()) + 1;
        if let Some(outer) = levels.last_mut() {
            outer.inner = outer.inner.max(height);
        }
    }
}

fn chain(levels: &mut [Level], span: Span) -> Result<()> {
    let Some(level) = levels.last_mut() else { return Ok(()) };
    level.chain += 1;
    let height: usize = levels.iter().map(|level| level.chain + 1).sum::<usize>() + levels.last().map_or(0, |level| level.inner);
    if height > MAX_TREE_HEIGHT {
        let message = format!("an expression is more than {MAX_TREE_HEIGHT} operators high");
        return Err(Fault::new(span, message).hint("use IN (…) for long lists of OR, or views").into());
    }
    Ok(())
}

fn next_item(levels: &mut [Level]) {
    if let Some(level) = levels.last_mut() {
        level.next_item();
    }
}

fn is_operator(keyword: Keyword) -> bool {
    use Keyword::{AND, BETWEEN, EXCEPT, IN, INTERSECT, IS, LIKE, NOT, OR, UNION, WHEN};
    matches!(keyword, AND | OR | NOT | IS | LIKE | IN | BETWEEN | WHEN | UNION | EXCEPT | INTERSECT)
}

fn is_operator_token(token: &Token) -> bool {
    use Token::*;
    !matches!(
        token,
        EOF | Word(_)
            | Number(..)
            | Char(_)
            | SingleQuotedString(_)
            | DoubleQuotedString(_)
            | Whitespace(_)
            | SemiColon
            | Comma
            | Period
            | LParen
            | RParen
            | LBracket
            | RBracket
            | LBrace
            | RBrace
    )
}
