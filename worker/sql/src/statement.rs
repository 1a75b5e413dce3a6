//! [pure] A script's statements: splitting at semicolons, and the parts of Flink's grammar around queries.

use datafusion_expr::sqlparser::{
    ast::{Ident, Query},
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer},
};

use rheos_dataflow::changelog::KIND_COLUMN;

use crate::ddl::{self, TableDef};
use crate::dialect::FlinkDialect;
use crate::error::{Fault, Faults, Result, fail_hint, point};
use crate::limits::{self, MAX_NESTING, MAX_STATEMENTS};

/// Recursions of the parser, at most: it counts one or two for each level of nesting and for each operator that binds
/// to the right, and needs some kilobytes of stack for each.
const PARSER_RECURSION_LIMIT: usize = 2 * MAX_NESTING;

/// A statement of a script.
#[derive(Debug)]
pub(crate) enum Statement {
    CreateTable(Box<TableDef>),
    CreateView { name: Ident, columns: Vec<Ident>, query: Box<Query> },
    Insert { table: Ident, columns: Vec<Ident>, query: Box<Query> },
}

/// The tokens of one statement, without comments.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) tokens: Vec<TokenWithSpan>,
    pub(crate) span: Span,
}

/// Cuts a script into statements.
pub(crate) fn split(sql: &str) -> Result<Vec<Chunk>> {
    let tokens = Tokenizer::new(&FlinkDialect::new(0), sql).tokenize_with_location().map_err(|error| {
        let at = point(error.location.line, error.location.column);
        Fault::new(at, error.message.trim().to_lowercase())
    })?;
    let mut chunks = Vec::new();
    let mut current: Vec<TokenWithSpan> = Vec::new();
    for token in tokens {
        match token.token {
            Token::Whitespace(_) => {}
            Token::SemiColon | Token::EOF => finish(&mut chunks, &mut current, token.span.start),
            Token::Word(ref word) if word.value.eq_ignore_ascii_case(KIND_COLUMN) => {
                let hint = "choose another name: it is that of the column which says how a row changes a table";
                return fail_hint(token.span, format!("the name {KIND_COLUMN} is taken"), hint);
            }
            _ => current.push(token),
        }
    }
    let end = current.last().map_or(Location { line: 1, column: 1 }, |token| token.span.end);
    finish(&mut chunks, &mut current, end);
    if let Some(chunk) = chunks.get(MAX_STATEMENTS) {
        return fail_hint(chunk.span, format!("more than {MAX_STATEMENTS} statements"), "split the job");
    }
    Ok(chunks)
}

/// Ends a statement; the end of its text becomes a token, so that the parser knows where it is.
fn finish(chunks: &mut Vec<Chunk>, tokens: &mut Vec<TokenWithSpan>, end: Location) {
    if let (Some(first), Some(last)) = (tokens.first(), tokens.last()) {
        let span = Span { start: first.span.start, end: last.span.end };
        tokens.push(TokenWithSpan { token: Token::EOF, span: Span { start: end, end } });
        chunks.push(Chunk { tokens: std::mem::take(tokens), span });
    }
}

/// Parses one statement; `None` for the brackets of a statement set.
pub(crate) fn parse(chunk: &Chunk) -> Result<Option<Statement>> {
    limits::check_nesting(&chunk.tokens)?;
    let dialect = FlinkDialect::new(chunk.tokens.len());
    let mut parser = Parser::new(&dialect).with_recursion_limit(PARSER_RECURSION_LIMIT).with_tokens_with_locations(chunk.tokens.clone());
    if is_set_bracket(&mut parser) {
        return Ok(None);
    }
    let start = parser.peek_token();
    let statement = if parser.parse_keywords(&[Keyword::CREATE, Keyword::TABLE])
        || parser.parse_keywords(&[Keyword::CREATE, Keyword::TEMPORARY, Keyword::TABLE])
    {
        Statement::CreateTable(Box::new(ddl::parse_table(&mut parser)?))
    } else if parser.parse_keywords(&[Keyword::CREATE, Keyword::VIEW])
        || parser.parse_keywords(&[Keyword::CREATE, Keyword::TEMPORARY, Keyword::VIEW])
    {
        view(&mut parser)?
    } else if parser.parse_keywords(&[Keyword::INSERT, Keyword::INTO]) {
        insert(&mut parser)?
    } else {
        return refuse(&mut parser, &start);
    };
    let rest = parser.peek_token();
    match rest.token {
        Token::EOF => Ok(Some(statement)),
        _ => Err(syntax(parser.expected::<()>("end of statement", rest))),
    }
}

/// `EXECUTE STATEMENT SET BEGIN`, `BEGIN STATEMENT SET` and `END` mean nothing here: a script is one job.
fn is_set_bracket(parser: &mut Parser) -> bool {
    if parser.parse_keyword(Keyword::EXECUTE) && !parser.peek_keyword(Keyword::STATEMENT) {
        parser.prev_token();
        return false;
    }
    let begun = parser.peek_keyword(Keyword::BEGIN) && word_is(&parser.peek_nth_token(1).token, "STATEMENT");
    if begun {
        parser.next_token();
    }
    if begun || word_is(&parser.peek_token().token, "STATEMENT") {
        if word_is(&parser.peek_nth_token(1).token, "SET") {
            parser.next_token();
            parser.next_token();
            let _ = parser.parse_keyword(Keyword::BEGIN);
        }
    } else if parser.peek_keyword(Keyword::END) {
        parser.next_token();
    }
    parser.peek_token().token == Token::EOF
}

fn word_is(token: &Token, expected: &str) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected))
}

fn view(parser: &mut Parser) -> Result<Statement> {
    let _ = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = ddl::simple_name(parser)?;
    let columns = name_list(parser)?;
    if parser.parse_keyword(Keyword::COMMENT) {
        syntax_result(parser.parse_literal_string())?;
    }
    syntax_result(parser.expect_keyword_is(Keyword::AS))?;
    Ok(Statement::CreateView { name, columns, query: syntax_result(parser.parse_query())? })
}

fn insert(parser: &mut Parser) -> Result<Statement> {
    let table = ddl::simple_name(parser)?;
    let at = parser.peek_token().span;
    if parser.parse_keyword(Keyword::PARTITION) {
        return fail_hint(at, "PARTITION in INSERT INTO is not supported", "select the partition's value as a column");
    }
    // `(a, b) SELECT` is a column list, `(SELECT …)` a query.
    let is_query = matches!(&parser.peek_nth_token(1).token, Token::Word(word) if matches!(word.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES))
        || parser.peek_nth_token(1).token == Token::LParen;
    let columns = if is_query { Vec::new() } else { name_list(parser)? };
    Ok(Statement::Insert { table, columns, query: syntax_result(parser.parse_query())? })
}

fn name_list(parser: &mut Parser) -> Result<Vec<Ident>> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(Vec::new());
    }
    let names = syntax_result(parser.parse_comma_separated(Parser::parse_identifier))?;
    syntax_result(parser.expect_token(&Token::RParen))?;
    Ok(names)
}

/// Statements that are not of a job's script.
fn refuse(parser: &mut Parser, start: &TokenWithSpan) -> Result<Option<Statement>> {
    let words: Vec<String> = (0..3)
        .map_while(|n| match parser.peek_nth_token(n).token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
            _ => None,
        })
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (name, hint) = match words.as_slice() {
        ["SET" | "RESET", ..] => ("SET", "settings of a job are fields of the StreamJob's spec"),
        ["CREATE", "TEMPORARY", "SYSTEM"] | ["CREATE", "FUNCTION", ..] | ["CREATE", "TEMPORARY", "FUNCTION"] => {
            ("CREATE FUNCTION", "user-defined functions are not supported; use the built-in ones")
        }
        ["CREATE", "CATALOG" | "DATABASE", ..] | ["USE", ..] => {
            ("this statement", "there are no catalogs and databases; declare every table in the script")
        }
        ["CREATE", "OR", ..] => ("OR REPLACE", "every table and view is declared once"),
        ["CREATE", "MATERIALIZED" | "MODEL", ..] => ("this CREATE", "a job is CREATE TABLE, CREATE VIEW and INSERT INTO"),
        ["INSERT", "OVERWRITE", ..] => ("INSERT OVERWRITE", "a stream has no end; use INSERT INTO"),
        ["SELECT" | "WITH", ..] => ("a query without a sink", "write INSERT INTO a table, for example with 'connector' = 'print'"),
        ["EXPLAIN" | "DESCRIBE" | "DESC" | "SHOW", ..] => ("this statement", "use `rheos-worker explain`"),
        [first @ ("DROP" | "ALTER" | "UPDATE" | "DELETE" | "ANALYZE" | "CALL" | "LOAD" | "TRUNCATE" | "MERGE"), ..] => {
            (*first, "a job is CREATE TABLE, CREATE VIEW and INSERT INTO")
        }
        _ => {
            let found = start.clone();
            return Err(syntax(parser.expected::<()>("CREATE TABLE, CREATE VIEW or INSERT INTO", found)));
        }
    };
    fail_hint(start.span, format!("{name} is not supported in a job's script"), hint)
}

/// The parser's answer with its mistakes turned into ours.
pub(crate) fn syntax_result<T>(result: Result<T, ParserError>) -> Result<T> {
    result.map_err(|error| syntax(Err::<(), _>(error)))
}

/// The fault behind a parser's error, whose place is at the end of its message.
pub(crate) fn syntax<T>(result: Result<T, ParserError>) -> Faults {
    let message = match result {
        Ok(_) => return Faults::default(),
        Err(ParserError::RecursionLimitExceeded) => {
            return Fault::new(Span::empty(), "the statement is nested too deeply").hint("use views").into();
        }
        Err(ParserError::ParserError(message) | ParserError::TokenizerError(message)) => message,
    };
    let (text, place) = match message.rsplit_once(" at Line: ") {
        Some((text, place)) => (text, place.split_once(", Column: ")),
        None => (message.as_str(), None),
    };
    let at = place.and_then(|(line, column)| Some(point(line.trim().parse().ok()?, column.trim().parse().ok()?)));
    let text = text.replacen("xpected: ", "xpected ", 1).replacen(", found: ", ", found ", 1).replace("found EOF", "found the end");
    let mut rest = text.chars();
    let text: String = rest.next().into_iter().flat_map(char::to_lowercase).chain(rest).collect();
    Fault::new(at.unwrap_or(Span::empty()), text).into()
}

/// The name that a faulty CREATE statement would declare.
pub(crate) fn declared_name(chunk: &Chunk) -> Option<&str> {
    let mut words = chunk.tokens.iter().map_while(|token| match &token.token {
        Token::Word(word) => Some(word),
        _ => None,
    });
    if words.next()?.keyword != Keyword::CREATE {
        return None;
    }
    let skipped = [Keyword::TEMPORARY, Keyword::TABLE, Keyword::VIEW, Keyword::IF, Keyword::NOT, Keyword::EXISTS];
    words.find(|word| word.quote_style.is_some() || !skipped.contains(&word.keyword)).map(|word| word.value.as_str())
}
