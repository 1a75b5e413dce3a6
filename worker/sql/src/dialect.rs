//! [pure] How Flink's SQL is written, for `sqlparser`.

use std::cell::Cell;

use datafusion_expr::sqlparser::{
    ast::Expr,
    dialect::Dialect,
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::Token,
};

/// Back-ticks quote identifiers; the rest is close to the standard.
///
/// The parser tries alternatives one after the other, and a mistake deep inside can make it try exponentially many.
/// It asks the dialect at every operand, so that is where the work is counted.
#[derive(Debug)]
pub(crate) struct FlinkDialect {
    /// Operands that may still be parsed.
    budget: Cell<usize>,
}

impl FlinkDialect {
    /// For a text of so many tokens.
    pub(crate) fn new(tokens: usize) -> Self {
        Self { budget: Cell::new(8 * tokens + 10_000) }
    }
}

impl Dialect for FlinkDialect {
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_' || ch == '$'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    /// `TABLE bid` as an argument of a window table function is the table's name. An interval's length is a literal:
    /// the parser would take another interval, without counting how deep it goes.
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let budget = self.budget.get();
        if budget == 0 {
            // The one error that ends all tries.
            return Some(Err(ParserError::RecursionLimitExceeded));
        }
        self.budget.set(budget - 1);
        let [Token::Word(first), second] = parser.peek_tokens::<2>() else { return None };
        if first.quote_style.is_some() {
            return None;
        }
        let is_length = matches!(second, Token::SingleQuotedString(_) | Token::Number(..) | Token::Minus | Token::Plus);
        if first.keyword == Keyword::INTERVAL && !is_length {
            let found = parser.peek_nth_token(1);
            return Some(parser.expected("the length of the interval in quotes", found));
        }
        if first.keyword != Keyword::TABLE || !matches!(second, Token::Word(_)) {
            return None;
        }
        parser.next_token();
        Some(
            parser
                .parse_object_name(false)
                .map(|name| Expr::CompoundIdentifier(name.0.into_iter().filter_map(|part| part.as_ident().cloned()).collect())),
        )
    }
}
