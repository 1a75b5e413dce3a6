//! [pure] Functions of strings. Positions and lengths count characters, as in Flink.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::Expr;
use regex::Regex;

use crate::coerce::Typed;
use crate::functions::{Text, Values, call, slices, texts, values};
use crate::types;

/// Bytes of a compiled regular expression, at most.
const MAX_REGEX_BYTES: usize = 1 << 20;
/// Characters that LPAD, RPAD and REPEAT make, at most.
const MAX_TEXT_CHARS: i64 = 1 << 20;

/// The functions of this table, for suggestions.
pub(crate) const NAMES: &[&str] = &[
    "UPPER",
    "LOWER",
    "TRIM",
    "LTRIM",
    "RTRIM",
    "BTRIM",
    "SUBSTRING",
    "SUBSTR",
    "CHAR_LENGTH",
    "CHARACTER_LENGTH",
    "LENGTH",
    "CONCAT",
    "CONCAT_WS",
    "REPLACE",
    "POSITION",
    "LOCATE",
    "INSTR",
    "LPAD",
    "RPAD",
    "LEFT",
    "RIGHT",
    "REVERSE",
    "REPEAT",
    "SPLIT_INDEX",
    "REGEXP_EXTRACT",
    "REGEXP_REPLACE",
    "REGEXP",
    "INITCAP",
    "OVERLAY",
    "STARTSWITH",
    "ENDSWITH",
    "ASCII",
    "CHR",
];

/// Finds and applies a function; `None` when it is not one of this table.
pub(crate) fn lookup(name: &str, args: &[Typed]) -> Option<Result<Typed, String>> {
    let args = || Args { name, args };
    Some(match name {
        "UPPER" | "LOWER" | "INITCAP" | "REVERSE" => args().all(1, 1).and_then(|args| recase(args, name)),
        "TRIM" => args().all(1, 1).and_then(|args| trim(args.text(0)?, None, true, true)),
        "BTRIM" => side_trim(args(), true, true),
        "LTRIM" => side_trim(args(), true, false),
        "RTRIM" => side_trim(args(), false, true),
        "SUBSTRING" | "SUBSTR" => args().all(2, 3).and_then(substring),
        "CHAR_LENGTH" | "CHARACTER_LENGTH" | "LENGTH" => args().all(1, 1).and_then(length),
        "ASCII" => args().all(1, 1).and_then(ascii),
        "CHR" => args().all(1, 1).and_then(chr),
        "CONCAT" => args().all(1, usize::MAX).and_then(|args| concat("CONCAT", args.args.to_vec())),
        "CONCAT_WS" => args().all(2, usize::MAX).and_then(concat_ws),
        "REPLACE" => args().all(3, 3).and_then(replace),
        "POSITION" => args().all(2, 2).and_then(|args| position(args.text(0)?, args.text(1)?)),
        "LOCATE" => args().all(2, 2).and_then(|args| position(args.text(0)?, args.text(1)?)),
        "INSTR" => args().all(2, 2).and_then(|args| position(args.text(1)?, args.text(0)?)),
        "LPAD" | "RPAD" => args().all(3, 3).and_then(|args| pad(args, name == "LPAD")),
        "LEFT" | "RIGHT" => args().all(2, 2).and_then(|args| end(args, name == "LEFT")),
        "REPEAT" => args().all(2, 2).and_then(repeat),
        "SPLIT_INDEX" => args().all(3, 3).and_then(split_index),
        "REGEXP_EXTRACT" => args().all(2, 3).and_then(regexp_extract),
        "REGEXP_REPLACE" => args().all(3, 3).and_then(regexp_replace),
        "REGEXP" => args().all(2, 2).and_then(regexp),
        "OVERLAY" => args().all(3, 4).and_then(overlay),
        "STARTSWITH" => args().all(2, 2).and_then(|args| test(args, |text, part| text.starts_with(part))),
        "ENDSWITH" => args().all(2, 2).and_then(|args| test(args, |text, part| text.ends_with(part))),
        _ => return None,
    })
}

/// Arguments with checks of number and type.
pub(crate) struct Args<'a> {
    pub(crate) name: &'a str,
    pub(crate) args: &'a [Typed],
}

impl Args<'_> {
    /// The same, if there are from `least` to `most`.
    pub(crate) fn all(self, least: usize, most: usize) -> Result<Self, String> {
        if (least..=most).contains(&self.args.len()) {
            return Ok(self);
        }
        let number = if least == most {
            format!("{least}")
        } else if most == usize::MAX {
            format!("at least {least}")
        } else {
            format!("{least} to {most}")
        };
        let noun = if number == "1" { "argument" } else { "arguments" };
        Err(format!("{} takes {number} {noun}, not {}", self.name, self.args.len()))
    }

    pub(crate) fn text(&self, index: usize) -> Result<Typed, String> {
        self.typed(index, &DataType::Utf8, |ty| *ty == DataType::Utf8)
    }

    pub(crate) fn integer(&self, index: usize) -> Result<Typed, String> {
        self.typed(index, &DataType::Int64, DataType::is_integer)
    }

    pub(crate) fn number(&self, index: usize) -> Result<Typed, String> {
        let value = self.args[index].clone();
        match types::is_number(&value.ty) {
            true => Ok(value),
            false if value.ty == DataType::Null => Ok(value.into_type(&DataType::Int32)),
            false => Err(self.wrong(index, "a number")),
        }
    }

    fn typed(&self, index: usize, ty: &DataType, fits: impl Fn(&DataType) -> bool) -> Result<Typed, String> {
        let value = self.args[index].clone();
        if fits(&value.ty) || value.ty == DataType::Null {
            return Ok(value.into_type(ty));
        }
        Err(self.wrong(index, if *ty == DataType::Utf8 { "a STRING" } else { "an integer" }))
    }

    pub(crate) fn wrong(&self, index: usize, expected: &str) -> String {
        format!("argument {} of {} must be {expected}, not {}", index + 1, self.name, types::name(&self.args[index].ty))
    }

    /// A literal text that is prepared once.
    pub(crate) fn constant(&self, index: usize) -> Result<String, String> {
        match self.args[index].text() {
            Some(text) => Ok(text.into()),
            None => Err(format!("argument {} of {} must be a literal STRING", index + 1, self.name)),
        }
    }
}

fn literal(text: &str) -> Expr {
    Expr::Literal(ScalarValue::from(text), None)
}

fn recase(args: Args<'_>, name: &str) -> Result<Typed, String> {
    type Write = fn(&str, &mut String);
    let write: Write = match name {
        "UPPER" => |text, out| match text.is_ascii() {
            true => out.extend(text.bytes().map(|byte| char::from(byte.to_ascii_uppercase()))),
            false => out.extend(text.chars().flat_map(char::to_uppercase)),
        },
        "LOWER" => |text, out| match text.is_ascii() {
            true => out.extend(text.bytes().map(|byte| char::from(byte.to_ascii_lowercase()))),
            false => out.extend(text.chars().flat_map(char::to_lowercase)),
        },
        "REVERSE" => |text, out| out.extend(text.chars().rev()),
        _ => |text, out| {
            let mut inside = false;
            for c in text.chars() {
                match inside {
                    true => out.extend(c.to_lowercase()),
                    false => out.extend(c.to_uppercase()),
                }
                inside = c.is_alphanumeric();
            }
        },
    };
    let text = args.text(0)?;
    Ok(call(&name.to_lowercase(), vec![text.expr], DataType::Utf8, move |args, rows| {
        let text = Text::of(&args[0])?;
        Ok(texts(rows, text.bytes(rows), |row, out| text.get(row).map(|text| write(text, out)).is_some()))
    }))
}

/// `TRIM(BOTH what FROM text)`.
pub(crate) fn trim(text: Typed, what: Option<Typed>, left: bool, right: bool) -> Result<Typed, String> {
    let what = what.unwrap_or_else(|| Typed::literal(ScalarValue::from(" ")));
    if text.ty != DataType::Utf8 || what.ty != DataType::Utf8 {
        return Err(format!("TRIM needs a STRING, not {}", types::name(&text.ty)));
    }
    let name = match (left, right) {
        (true, true) => "trim",
        (true, false) => "ltrim",
        _ => "rtrim",
    };
    Ok(call(name, vec![text.expr, what.expr], DataType::Utf8, move |args, rows| {
        let (text, what) = (Text::of(&args[0])?, Text::of(&args[1])?);
        Ok(slices(rows, text.bytes(rows), |row| {
            let (mut text, what) = (text.get(row)?, what.get(row)?);
            if left {
                text = text.trim_start_matches(|c| what.contains(c));
            }
            Some(if right { text.trim_end_matches(|c| what.contains(c)) } else { text })
        }))
    }))
}

fn side_trim(args: Args<'_>, left: bool, right: bool) -> Result<Typed, String> {
    let args = args.all(1, 2)?;
    let what = if args.args.len() == 2 { Some(args.text(1)?) } else { None };
    trim(args.text(0)?, what, left, right)
}

/// Characters `[from, from + count)` of a text.
fn cut(text: &str, from: usize, count: usize) -> &str {
    if text.is_ascii() {
        let from = from.min(text.len());
        return &text[from..from.saturating_add(count).min(text.len())];
    }
    let start = text.char_indices().nth(from).map_or(text.len(), |(at, _)| at);
    let rest = &text[start..];
    &rest[..rest.char_indices().nth(count).map_or(rest.len(), |(at, _)| at)]
}

/// From 1; a negative start counts from the end.
fn substring(args: Args<'_>) -> Result<Typed, String> {
    let mut exprs = vec![args.text(0)?.expr, args.integer(1)?.expr];
    if args.args.len() == 3 {
        exprs.push(args.integer(2)?.expr);
    }
    Ok(call("substring", exprs, DataType::Utf8, |args, rows| {
        let (text, from) = (Text::of(&args[0])?, Values::<Int64Type>::of(&args[1])?);
        let count = args.get(2).map(Values::<Int64Type>::of).transpose()?;
        Ok(slices(rows, text.bytes(rows), |row| {
            let (text, from) = (text.get(row)?, from.get(row)?);
            let count = match &count {
                Some(count) => count.get(row)?,
                None => i64::MAX,
            };
            if count < 0 {
                return None;
            }
            let from = match from {
                1.. => from - 1,
                0 => 0,
                _ => {
                    let start = text.chars().count() as i64 + from;
                    if start < 0 {
                        return Some("");
                    }
                    start
                }
            };
            Some(cut(text, from as usize, count as usize))
        }))
    }))
}

/// The first `length` characters: CAST to VARCHAR(length).
pub(crate) fn truncate(text: Typed, length: u64) -> Typed {
    let args = vec![text.expr, Expr::Literal(ScalarValue::Int64(Some(length as i64)), None)];
    call("left", args, DataType::Utf8, move |args, rows| {
        let text = Text::of(&args[0])?;
        Ok(slices(rows, text.bytes(rows), |row| text.get(row).map(|text| cut(text, 0, length as usize))))
    })
}

fn end(args: Args<'_>, left: bool) -> Result<Typed, String> {
    let name = if left { "left" } else { "right" };
    Ok(call(name, vec![args.text(0)?.expr, args.integer(1)?.expr], DataType::Utf8, move |args, rows| {
        let (text, count) = (Text::of(&args[0])?, Values::<Int64Type>::of(&args[1])?);
        Ok(slices(rows, text.bytes(rows), |row| {
            let (text, count) = (text.get(row)?, count.get(row)?.max(0) as usize);
            Some(match left {
                true => cut(text, 0, count),
                false => cut(text, text.chars().count().saturating_sub(count), usize::MAX),
            })
        }))
    }))
}

fn length(args: Args<'_>) -> Result<Typed, String> {
    Ok(call("char_length", vec![args.text(0)?.expr], DataType::Int32, |args, rows| {
        let text = Text::of(&args[0])?;
        let count = |text: &str| if text.is_ascii() { text.len() } else { text.chars().count() } as i32;
        Ok(Arc::new(values::<Int32Type>(rows, |row| text.get(row).map(count))))
    }))
}

fn ascii(args: Args<'_>) -> Result<Typed, String> {
    Ok(call("ascii", vec![args.text(0)?.expr], DataType::Int32, |args, rows| {
        let text = Text::of(&args[0])?;
        Ok(Arc::new(values::<Int32Type>(rows, |row| text.get(row).map(|text| text.bytes().next().map_or(0, i32::from)))))
    }))
}

fn chr(args: Args<'_>) -> Result<Typed, String> {
    Ok(call("chr", vec![args.integer(0)?.expr], DataType::Utf8, |args, rows| {
        let code = Values::<Int64Type>::of(&args[0])?;
        Ok(texts(rows, rows * 2, |row, out| code.get(row).map(|code| out.push(char::from((code & 0xff) as u8))).is_some()))
    }))
}

/// `CONCAT(…)` and `||`: null when one is.
pub(crate) fn concat(name: &str, parts: Vec<Typed>) -> Result<Typed, String> {
    let args = Args { name, args: &parts };
    let exprs = (0..parts.len()).map(|index| args.text(index).map(|part| part.expr)).collect::<Result<Vec<_>, _>>()?;
    Ok(call("concat", exprs, DataType::Utf8, |args, rows| {
        let parts = args.iter().map(Text::of).collect::<Result<Vec<_>>>()?;
        let bytes = parts.iter().map(|part| part.bytes(rows)).sum();
        Ok(texts(rows, bytes, |row, out| parts.iter().all(|part| part.get(row).map(|text| out.push_str(text)).is_some())))
    }))
}

/// Null when the separator is; null parts are left out.
fn concat_ws(args: Args<'_>) -> Result<Typed, String> {
    let exprs = (0..args.args.len()).map(|index| args.text(index).map(|part| part.expr)).collect::<Result<Vec<_>, _>>()?;
    Ok(call("concat_ws", exprs, DataType::Utf8, |args, rows| {
        let parts = args.iter().map(Text::of).collect::<Result<Vec<_>>>()?;
        let bytes = parts.iter().map(|part| part.bytes(rows)).sum();
        Ok(texts(rows, bytes, |row, out| {
            let Some((Some(separator), rest)) = parts.split_first().map(|(first, rest)| (first.get(row), rest)) else { return false };
            for (index, text) in rest.iter().filter_map(|part| part.get(row)).enumerate() {
                if index > 0 {
                    out.push_str(separator);
                }
                out.push_str(text);
            }
            true
        }))
    }))
}

fn replace(args: Args<'_>) -> Result<Typed, String> {
    let exprs = vec![args.text(0)?.expr, args.text(1)?.expr, args.text(2)?.expr];
    Ok(call("replace", exprs, DataType::Utf8, |args, rows| {
        let (text, what, with) = (Text::of(&args[0])?, Text::of(&args[1])?, Text::of(&args[2])?);
        Ok(texts(rows, text.bytes(rows), |row, out| {
            let (Some(text), Some(what), Some(with)) = (text.get(row), what.get(row), with.get(row)) else { return false };
            if what.is_empty() {
                out.push_str(text);
                return true;
            }
            let mut last = 0;
            for (at, found) in text.match_indices(what) {
                out.push_str(&text[last..at]);
                out.push_str(with);
                last = at + found.len();
            }
            out.push_str(&text[last..]);
            true
        }))
    }))
}

/// From 1; 0 when it is not there.
fn position(what: Typed, text: Typed) -> Result<Typed, String> {
    Ok(call("position", vec![what.expr, text.expr], DataType::Int32, |args, rows| {
        let (what, text) = (Text::of(&args[0])?, Text::of(&args[1])?);
        let find = |row| {
            let (what, text) = (what.get(row)?, text.get(row)?);
            Some(text.find(what).map_or(0, |at| text[..at].chars().count() as i32 + 1))
        };
        Ok(Arc::new(values::<Int32Type>(rows, find)))
    }))
}

/// Null when the length is negative or the padding empty.
fn pad(args: Args<'_>, left: bool) -> Result<Typed, String> {
    let exprs = vec![args.text(0)?.expr, args.integer(1)?.expr, args.text(2)?.expr];
    Ok(call(if left { "lpad" } else { "rpad" }, exprs, DataType::Utf8, move |args, rows| {
        let (text, length, with) = (Text::of(&args[0])?, Values::<Int64Type>::of(&args[1])?, Text::of(&args[2])?);
        Ok(texts(rows, text.bytes(rows), |row, out| {
            let (Some(text), Some(length), Some(with)) = (text.get(row), length.get(row), with.get(row)) else { return false };
            if !(0..=MAX_TEXT_CHARS).contains(&length) || with.is_empty() {
                return false;
            }
            let (length, count) = (length as usize, text.chars().count());
            let padding = with.chars().cycle().take(length.saturating_sub(count));
            if left {
                out.extend(padding.clone());
            }
            out.push_str(cut(text, 0, length));
            if !left {
                out.extend(padding);
            }
            true
        }))
    }))
}

fn repeat(args: Args<'_>) -> Result<Typed, String> {
    Ok(call("repeat", vec![args.text(0)?.expr, args.integer(1)?.expr], DataType::Utf8, |args, rows| {
        let (text, count) = (Text::of(&args[0])?, Values::<Int64Type>::of(&args[1])?);
        Ok(texts(rows, text.bytes(rows), |row, out| {
            let (Some(text), Some(count)) = (text.get(row), count.get(row)) else { return false };
            let most = MAX_TEXT_CHARS / text.len().max(1) as i64;
            (0..count.min(most)).for_each(|_| out.push_str(text));
            true
        }))
    }))
}

/// The part with this number, from 0, of a text cut at a delimiter; null when there is none.
fn split_index(args: Args<'_>) -> Result<Typed, String> {
    // A number as the delimiter is the character of that code.
    let delimiter = match (&args.args[1].ty, args.args[1].value()) {
        (ty, Some(value)) if ty.is_integer() => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(code @ 1..=255))) => Typed::literal(ScalarValue::from(char::from(code as u8).to_string())),
            _ => return Err("the delimiter's code is 1 to 255".into()),
        },
        _ => args.text(1)?,
    };
    let exprs = vec![args.text(0)?.expr, delimiter.expr, args.integer(2)?.expr];
    Ok(call("split_index", exprs, DataType::Utf8, |args, rows| {
        let (text, delimiter, index) = (Text::of(&args[0])?, Text::of(&args[1])?, Values::<Int64Type>::of(&args[2])?);
        let mut fallback = None;
        if let (Text::One(Some(delimiter)), Values::One(Some(index))) = (&delimiter, &index)
            && let (&[byte], Ok(index)) = (delimiter.as_bytes(), usize::try_from(*index))
        {
            fallback = Some((byte, index));
        }
        Ok(slices(rows, text.bytes(rows) / 2, |row| {
            let text = text.get(row)?;
            if text.is_empty() {
                return None;
            }
            if let Some((byte, index)) = fallback {
                return part(text, byte, index);
            }
            let (delimiter, index) = (delimiter.get(row)?, usize::try_from(index.get(row)?).ok()?);
            match delimiter.is_empty() {
                true => text.split_whitespace().nth(index),
                false => text.split(delimiter).nth(index),
            }
        }))
    }))
}

/// The part between one-byte delimiters; bytes of one character never equal an ASCII delimiter.
#[inline]
fn part(text: &str, delimiter: u8, index: usize) -> Option<&str> {
    let mut found = memchr::memchr_iter(delimiter, text.as_bytes());
    let start = match index.checked_sub(1) {
        None => 0,
        Some(before) => found.nth(before)? + 1,
    };
    text.get(start..found.next().unwrap_or(text.len()))
}

fn compile(pattern: &str) -> Result<Regex, String> {
    let compiled = regex::RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).build();
    compiled.map_err(|error| {
        let last = error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
        format!("'{pattern}' is no regular expression: {last}")
    })
}

/// The group of the first match; 0 is the whole match, null when nothing matches.
fn regexp_extract(args: Args<'_>) -> Result<Typed, String> {
    let regex = compile(&args.constant(1)?)?;
    let group = match args.args.get(2) {
        None => 0,
        Some(_) => match args.integer(2)?.value() {
            Some(ScalarValue::Int64(Some(group))) => usize::try_from(*group).map_err(|_| "the group is 0 or more".to_string())?,
            _ => return Err("the group of REGEXP_EXTRACT must be a literal".into()),
        },
    };
    let exprs = vec![args.text(0)?.expr, literal(regex.as_str()), Expr::Literal(ScalarValue::Int64(Some(group as i64)), None)];
    Ok(call("regexp_extract", exprs, DataType::Utf8, move |args, rows| {
        let text = Text::of(&args[0])?;
        let mut locations = regex.capture_locations();
        Ok(texts(rows, text.bytes(rows) / 2, |row, out| {
            let Some(text) = text.get(row) else { return false };
            let found = regex.captures_read(&mut locations, text).and_then(|_| locations.get(group));
            found.and_then(|(start, end)| text.get(start..end)).map(|found| out.push_str(found)).is_some()
        }))
    }))
}

/// `$1` in the replacement is a group, as in Java.
fn regexp_replace(args: Args<'_>) -> Result<Typed, String> {
    let regex = compile(&args.constant(1)?)?;
    let with = args.constant(2)?;
    // `$1a` is group 1 and an `a` in Java, a group called `1a` here: braces say what is meant.
    let mut template = String::new();
    let mut chars = with.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '$' if chars.peek().is_some_and(char::is_ascii_digit) => {
                template += "${";
                while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                    template.push(digit);
                }
                template.push('}');
            }
            '\\' => template.extend(chars.next().map(|next| if next == '$' { "$$".to_string() } else { next.to_string() })),
            c => template.push(c),
        }
    }
    let exprs = vec![args.text(0)?.expr, literal(regex.as_str()), literal(&with)];
    Ok(call("regexp_replace", exprs, DataType::Utf8, move |args, rows| {
        let text = Text::of(&args[0])?;
        Ok(texts(rows, text.bytes(rows), |row, out| {
            text.get(row).map(|text| out.push_str(&regex.replace_all(text, template.as_str()))).is_some()
        }))
    }))
}

fn regexp(args: Args<'_>) -> Result<Typed, String> {
    let regex = compile(&args.constant(1)?)?;
    matches(args.text(0)?, "regexp", regex)
}

fn matches(text: Typed, name: &str, regex: Regex) -> Result<Typed, String> {
    Ok(call(name, vec![text.expr, literal(regex.as_str())], DataType::Boolean, move |args, rows| {
        let text = Text::of(&args[0])?;
        let matched: BooleanArray = (0..rows).map(|row| text.get(row).map(|text| regex.is_match(text))).collect();
        Ok(Arc::new(matched) as ArrayRef)
    }))
}

/// `LIKE pattern ESCAPE character`.
pub(crate) fn like(text: Typed, pattern: &str, escape: Option<char>) -> Result<Typed, String> {
    let mut regex = String::from("(?s)^");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            c if Some(c) == escape => match chars.next() {
                Some(next) => regex += &regex::escape(next.encode_utf8(&mut [0; 4])),
                None => return Err("the pattern of LIKE ends with its escape character".into()),
            },
            '%' => regex += ".*",
            '_' => regex += ".",
            c => regex += &regex::escape(c.encode_utf8(&mut [0; 4])),
        }
    }
    matches(text, "like", compile(&(regex + "$"))?)
}

fn test(args: Args<'_>, holds: fn(&str, &str) -> bool) -> Result<Typed, String> {
    Ok(call(&args.name.to_lowercase(), vec![args.text(0)?.expr, args.text(1)?.expr], DataType::Boolean, move |args, rows| {
        let (text, part) = (Text::of(&args[0])?, Text::of(&args[1])?);
        let tested: BooleanArray = (0..rows).map(|row| Some(holds(text.get(row)?, part.get(row)?))).collect();
        Ok(Arc::new(tested) as ArrayRef)
    }))
}

/// `OVERLAY(text PLACING what FROM from FOR count)`.
fn overlay(args: Args<'_>) -> Result<Typed, String> {
    let mut exprs = vec![args.text(0)?.expr, args.text(1)?.expr, args.integer(2)?.expr];
    if args.args.len() == 4 {
        exprs.push(args.integer(3)?.expr);
    }
    Ok(call("overlay", exprs, DataType::Utf8, |args, rows| {
        let (text, what, from) = (Text::of(&args[0])?, Text::of(&args[1])?, Values::<Int64Type>::of(&args[2])?);
        let count = args.get(3).map(Values::<Int64Type>::of).transpose()?;
        Ok(texts(rows, text.bytes(rows) + what.bytes(rows), |row, out| {
            let (Some(text), Some(what), Some(from)) = (text.get(row), what.get(row), from.get(row)) else { return false };
            let count = match &count {
                Some(count) => match count.get(row) {
                    Some(count) => count,
                    None => return false,
                },
                None => what.chars().count() as i64,
            };
            if from < 1 || from > text.chars().count() as i64 {
                out.push_str(text);
                return true;
            }
            out.push_str(cut(text, 0, from as usize - 1));
            out.push_str(what);
            out.push_str(cut(text, from as usize - 1 + count.max(0) as usize, usize::MAX));
            true
        }))
    }))
}
