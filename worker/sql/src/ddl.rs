//! [pure] Flink's `CREATE TABLE`: nested types, computed columns, watermarks, options.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion_expr::sqlparser::{
    ast::{Expr, Ident},
    keywords::Keyword,
    parser::Parser,
    tokenizer::{Span, Token},
};

use crate::catalog::Metadata;
use crate::error::{Fault, Result, fail, fail_hint};
use crate::limits::MAX_COLUMNS;
use crate::statement::{syntax, syntax_result};
use crate::types;

/// A table as written; expressions are not bound yet.
#[derive(Debug)]
pub(crate) struct TableDef {
    pub(crate) name: Ident,
    pub(crate) columns: Vec<ColumnDef>,
    pub(crate) watermark: Option<WatermarkDef>,
    pub(crate) partition_by: Vec<Ident>,
    pub(crate) primary_key: Vec<Ident>,
    pub(crate) options: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) struct ColumnDef {
    pub(crate) name: Ident,
    pub(crate) kind: ColumnKind,
    pub(crate) metadata: Option<Metadata>,
}

#[derive(Debug)]
pub(crate) enum ColumnKind {
    Physical { ty: DataType, not_null: bool },
    Computed(Box<Expr>),
}

#[derive(Debug)]
pub(crate) struct WatermarkDef {
    pub(crate) column: Ident,
    pub(crate) expression: Expr,
}

/// Reads on after `CREATE TABLE`.
pub(crate) fn parse_table(parser: &mut Parser) -> Result<TableDef> {
    let _ = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = simple_name(parser)?;
    let mut table =
        TableDef { name, columns: vec![], watermark: None, partition_by: vec![], primary_key: vec![], options: BTreeMap::new() };
    syntax_result(parser.expect_token(&Token::LParen))?;
    loop {
        table_element(parser, &mut table)?;
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    syntax_result(parser.expect_token(&Token::RParen))?;
    if parser.parse_keyword(Keyword::COMMENT) {
        syntax_result(parser.parse_literal_string())?;
    }
    if parser.parse_keywords(&[Keyword::PARTITIONED, Keyword::BY]) {
        syntax_result(parser.expect_token(&Token::LParen))?;
        table.partition_by = syntax_result(parser.parse_comma_separated(Parser::parse_identifier))?;
        syntax_result(parser.expect_token(&Token::RParen))?;
    }
    let at = parser.peek_token().span;
    if parser.parse_keyword(Keyword::LIKE) {
        return fail_hint(at, "CREATE TABLE … LIKE is not supported", "write the columns out");
    }
    if parser.parse_keyword(Keyword::AS) {
        return fail_hint(at, "CREATE TABLE … AS is not supported", "write CREATE TABLE and INSERT INTO");
    }
    syntax_result(parser.expect_keyword_is(Keyword::WITH))?;
    options(parser, &mut table.options)?;
    check(&table)?;
    Ok(table)
}

fn table_element(parser: &mut Parser, table: &mut TableDef) -> Result<()> {
    let token = parser.peek_token();
    if parser.parse_keywords(&[Keyword::PRIMARY, Keyword::KEY]) {
        return primary_key(parser, table);
    }
    if parser.parse_keyword(Keyword::CONSTRAINT) {
        syntax_result(parser.parse_identifier())?;
        syntax_result(parser.expect_keywords(&[Keyword::PRIMARY, Keyword::KEY]))?;
        return primary_key(parser, table);
    }
    let is_watermark =
        matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("WATERMARK"));
    if is_watermark && matches!(&parser.peek_nth_token(1).token, Token::Word(word) if word.keyword == Keyword::FOR) {
        parser.next_token();
        parser.next_token();
        let column = syntax_result(parser.parse_identifier())?;
        syntax_result(parser.expect_keyword_is(Keyword::AS))?;
        let expression = syntax_result(parser.parse_expr())?;
        if table.watermark.is_some() {
            return fail(token.span, "a table has one WATERMARK");
        }
        table.watermark = Some(WatermarkDef { column, expression });
        return Ok(());
    }
    let name = syntax_result(parser.parse_identifier())?;
    let kind = if parser.parse_keyword(Keyword::AS) {
        ColumnKind::Computed(Box::new(syntax_result(parser.parse_expr())?))
    } else {
        let mut types = TypeParser { parser, open_brackets_closed: 0 };
        let (ty, not_null) = types.parse()?;
        ColumnKind::Physical { ty, not_null }
    };
    let metadata = match kind {
        ColumnKind::Physical { .. } => metadata(parser, &name)?,
        ColumnKind::Computed(_) => None,
    };
    let constrained = parser.parse_keyword(Keyword::CONSTRAINT);
    if constrained {
        syntax_result(parser.parse_identifier())?;
    }
    if parser.parse_keywords(&[Keyword::PRIMARY, Keyword::KEY]) {
        let _ = parser.parse_keywords(&[Keyword::NOT, Keyword::ENFORCED]);
        table.primary_key = vec![name.clone()];
    }
    if parser.parse_keyword(Keyword::COMMENT) {
        syntax_result(parser.parse_literal_string())?;
    }
    table.columns.push(ColumnDef { name, kind, metadata });
    Ok(())
}

/// `METADATA [FROM 'key'] [VIRTUAL]`
fn metadata(parser: &mut Parser, name: &Ident) -> Result<Option<Metadata>> {
    let word = |parser: &mut Parser, text: &str| {
        let found =
            matches!(&parser.peek_token().token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text));
        if found {
            parser.next_token();
        }
        found
    };
    if !word(parser, "METADATA") {
        return Ok(None);
    }
    let key = if parser.parse_keyword(Keyword::FROM) { syntax_result(parser.parse_literal_string())? } else { name.value.clone() };
    Ok(Some(Metadata { key, is_virtual: word(parser, "VIRTUAL") }))
}

/// Which rows a connector updates in place. Nobody checks that it is unique, as `NOT ENFORCED` says.
fn primary_key(parser: &mut Parser, table: &mut TableDef) -> Result<()> {
    syntax_result(parser.expect_token(&Token::LParen))?;
    table.primary_key = syntax_result(parser.parse_comma_separated(Parser::parse_identifier))?;
    syntax_result(parser.expect_token(&Token::RParen))?;
    syntax_result(parser.expect_keyword_is(Keyword::NOT))?;
    syntax_result(parser.expect_keyword_is(Keyword::ENFORCED))
}

fn options(parser: &mut Parser, options: &mut BTreeMap<String, String>) -> Result<()> {
    syntax_result(parser.expect_token(&Token::LParen))?;
    loop {
        let at = parser.peek_token().span;
        let key = syntax_result(parser.parse_literal_string())?;
        syntax_result(parser.expect_token(&Token::Eq))?;
        let value = syntax_result(parser.parse_literal_string())?;
        if options.insert(key.clone(), value).is_some() {
            return fail(at, format!("option '{key}' is given twice"));
        }
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    syntax_result(parser.expect_token(&Token::RParen))?;
    Ok(())
}

fn check(table: &TableDef) -> Result<()> {
    let mut width = 0;
    for (index, column) in table.columns.iter().enumerate() {
        width += match &column.kind {
            ColumnKind::Physical { ty, .. } => types::width(ty),
            ColumnKind::Computed(_) => 1,
        };
        if width > MAX_COLUMNS {
            return fail(column.name.span, format!("table {} has more than {MAX_COLUMNS} columns, nested ones counted", table.name.value));
        }
        if table.columns[..index].iter().any(|other| other.name.value == column.name.value) {
            return fail(column.name.span, format!("column {} is declared twice", column.name.value));
        }
    }
    if !table.options.contains_key("connector") {
        return fail_hint(
            table.name.span,
            format!("table {} has no 'connector' option", table.name.value),
            "add 'connector' = '…' to WITH",
        );
    }
    for name in &table.primary_key {
        if !table.columns.iter().any(|column| column.name.value == name.value) {
            return fail(name.span, format!("PRIMARY KEY of an unknown column {}", name.value));
        }
    }
    for name in &table.partition_by {
        if !table.columns.iter().any(|column| column.name.value == name.value) {
            return fail(name.span, format!("PARTITIONED BY an unknown column {}", name.value));
        }
    }
    Ok(())
}

/// A name without catalog and database.
pub(crate) fn simple_name(parser: &mut Parser) -> Result<Ident> {
    let name = syntax_result(parser.parse_identifier())?;
    let at = parser.peek_token().span;
    if parser.consume_token(&Token::Period) {
        return fail_hint(at, "names of catalogs and databases are not supported", "use the table's name alone");
    }
    Ok(name)
}

struct TypeParser<'a, 'b> {
    parser: &'a mut Parser<'b>,
    /// Brackets that a `>>` has closed and nobody has taken yet.
    open_brackets_closed: usize,
}

impl TypeParser<'_, '_> {
    /// A type and whether NOT NULL follows. Nesting is bounded by the statement's height.
    fn parse(&mut self) -> Result<(DataType, bool)> {
        let token = self.parser.next_token();
        let Token::Word(word) = &token.token else { return Err(syntax(self.parser.expected::<()>("a type", token))) };
        let ty = self.named(&word.value.to_uppercase(), token.span)?;
        let not_null = self.parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]);
        if !not_null {
            let _ = self.parser.parse_keyword(Keyword::NULL);
        }
        Ok((ty, not_null))
    }

    fn named(&mut self, name: &str, span: Span) -> Result<DataType> {
        let invalid = |message: String| Fault::new(span, message);
        Ok(match name {
            "BOOLEAN" => DataType::Boolean,
            "TINYINT" => DataType::Int8,
            "SMALLINT" => DataType::Int16,
            "INT" | "INTEGER" => DataType::Int32,
            "BIGINT" => DataType::Int64,
            "FLOAT" => DataType::Float32,
            "DOUBLE" => {
                let _ = self.parser.parse_keyword(Keyword::PRECISION);
                DataType::Float64
            }
            "DECIMAL" | "DEC" | "NUMERIC" => {
                let numbers = self.numbers(2)?;
                types::decimal(numbers.first().copied().unwrap_or(10), numbers.get(1).copied().unwrap_or(0)).map_err(invalid)?
            }
            "STRING" => DataType::Utf8,
            "CHAR" | "VARCHAR" => {
                if self.numbers(1)?.first() == Some(&0) {
                    return fail(span, "the length of a string type is at least 1");
                }
                DataType::Utf8
            }
            "BYTES" => DataType::Binary,
            "BINARY" | "VARBINARY" => {
                self.numbers(1)?;
                DataType::Binary
            }
            "DATE" => DataType::Date32,
            "TIMESTAMP" => {
                let precision = self.numbers(1)?.first().copied();
                let local = self.zone(span)?;
                types::timestamp(precision.unwrap_or(6), local).map_err(invalid)?
            }
            "TIMESTAMP_LTZ" => types::timestamp(self.numbers(1)?.first().copied().unwrap_or(6), true).map_err(invalid)?,
            "ARRAY" => {
                syntax_result(self.parser.expect_token(&Token::Lt))?;
                let (element, _) = self.parse()?;
                self.close_bracket()?;
                types::array(element)
            }
            "MAP" => {
                syntax_result(self.parser.expect_token(&Token::Lt))?;
                let (key, _) = self.parse()?;
                if key != DataType::Utf8 {
                    return fail_hint(span, format!("keys of a MAP are STRING, not {}", types::name(&key)), "use MAP<STRING, …>");
                }
                syntax_result(self.parser.expect_token(&Token::Comma))?;
                let (value, _) = self.parse()?;
                self.close_bracket()?;
                types::map(value)
            }
            "ROW" => self.row()?,
            "TIME" | "MULTISET" | "RAW" | "VARIANT" | "INTERVAL" => {
                return fail_hint(span, format!("type {name} is not supported"), "use STRING, or a ROW of its parts");
            }
            _ => {
                let known = [
                    "BOOLEAN",
                    "TINYINT",
                    "SMALLINT",
                    "INT",
                    "BIGINT",
                    "FLOAT",
                    "DOUBLE",
                    "DECIMAL",
                    "STRING",
                    "VARCHAR",
                    "BYTES",
                    "DATE",
                    "TIMESTAMP",
                    "TIMESTAMP_LTZ",
                    "ARRAY",
                    "MAP",
                    "ROW",
                ];
                return Fault::new(span, format!("unknown type {name}")).maybe_hint(crate::error::did_you_mean(name, known)).into();
            }
        })
    }

    /// `WITHOUT TIME ZONE` or `WITH LOCAL TIME ZONE`: whether it is local.
    fn zone(&mut self, span: Span) -> Result<bool> {
        if self.parser.parse_keywords(&[Keyword::WITHOUT, Keyword::TIME, Keyword::ZONE]) {
            return Ok(false);
        }
        if self.parser.parse_keywords(&[Keyword::WITH, Keyword::LOCAL, Keyword::TIME, Keyword::ZONE]) {
            return Ok(true);
        }
        if self.parser.parse_keywords(&[Keyword::WITH, Keyword::TIME, Keyword::ZONE]) {
            return fail_hint(span, "TIMESTAMP WITH TIME ZONE is not supported", "use TIMESTAMP_LTZ");
        }
        Ok(false)
    }

    fn row(&mut self) -> Result<DataType> {
        let parentheses = self.parser.consume_token(&Token::LParen);
        if !parentheses {
            syntax_result(self.parser.expect_token(&Token::Lt))?;
        }
        let mut fields: Vec<(String, DataType)> = Vec::new();
        loop {
            let name = syntax_result(self.parser.parse_identifier())?;
            if fields.iter().any(|(other, _)| *other == name.value) {
                return fail(name.span, format!("field {} is declared twice", name.value));
            }
            let (ty, _) = self.parse()?;
            if matches!(self.parser.peek_token().token, Token::SingleQuotedString(_)) {
                self.parser.next_token();
            }
            fields.push((name.value, ty));
            if self.open_brackets_closed > 0 || !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        if parentheses {
            syntax_result(self.parser.expect_token(&Token::RParen))?;
        } else {
            self.close_bracket()?;
        }
        Ok(types::row(fields))
    }

    /// A `>`; the tokenizer reads two of them as `>>`.
    fn close_bracket(&mut self) -> Result<()> {
        if self.open_brackets_closed > 0 {
            self.open_brackets_closed -= 1;
        } else if self.parser.consume_token(&Token::ShiftRight) {
            self.open_brackets_closed = 1;
        } else {
            syntax_result(self.parser.expect_token(&Token::Gt))?;
        }
        Ok(())
    }

    fn numbers(&mut self, most: usize) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        if self.parser.consume_token(&Token::LParen) {
            loop {
                numbers.push(syntax_result(self.parser.parse_literal_uint())?);
                if numbers.len() == most || !self.parser.consume_token(&Token::Comma) {
                    break;
                }
            }
            syntax_result(self.parser.expect_token(&Token::RParen))?;
        }
        Ok(numbers)
    }
}
