//! [pure] How Flink's SQL is written, for `sqlparser`.

use datafusion_expr::sqlparser::{
    ast::Expr,
    dialect::Dialect,
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::Token,
};

/// Back-ticks quote identifiers; the rest is close to the standard.
#[derive(Debug)]
pub(crate) struct FlinkDialect;

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

    /// `TABLE bid` as an argument of a window table function is the table's name.
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let [Token::Word(first), Token::Word(_)] = parser.peek_tokens::<2>() else { return None };
        if first.keyword != Keyword::TABLE || first.quote_style.is_some() {
            return None;
        }
        parser.next_token();
        Some(parser.parse_object_name(false).map(|name| {
            Expr::CompoundIdentifier(name.0.into_iter().filter_map(|part| part.as_ident().cloned()).collect())
        }))
    }
}
