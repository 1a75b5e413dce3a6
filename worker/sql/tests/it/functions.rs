//! Every function and operator on three rows (values, edge values, NULL), against Flink's semantics written by hand.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int32Builder, Int64Array, MapBuilder, MapFieldNames,
    RecordBatch, StringArray, StringBuilder, StructArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Fields};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::support::{planned, run_calcs};

const TABLE: &str = "CREATE TABLE t (
    s STRING, u STRING, i INT, l BIGINT, d DOUBLE, dec DECIMAL(10, 2), b BOOLEAN,
    ts TIMESTAMP(3), dt DATE, r ROW<a INT, n ROW<x STRING, y BIGINT>>, tss STRING, m MAP<STRING, INT>
) WITH ('connector' = 'datagen');";

/// 2024-02-29 13:45:59.123.
const LEAP: i64 = 1_709_214_359_123;

fn rows() -> RecordBatch {
    let inner = Fields::from(vec![Field::new("x", DataType::Utf8, true), Field::new("y", DataType::Int64, true)]);
    let nested: ArrayRef = Arc::new(StructArray::new(
        inner.clone(),
        vec![Arc::new(StringArray::from(vec![Some("x0"), None, Some("hidden")])), Arc::new(Int64Array::from(vec![1, 2, 3]))],
        None,
    ));
    let row = Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("n", DataType::Struct(inner), true)]);
    // The last row is NULL as a whole, with values below that nobody may see.
    let nulls = Some(vec![true, true, false].into());
    let r: ArrayRef = Arc::new(StructArray::new(row, vec![Arc::new(Int32Array::from(vec![10, 20, 30])), nested], nulls));
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), Int32Builder::new());
    // A key that comes twice, an empty map, and a map that is NULL with an entry below.
    for (entries, present) in [(vec![("a", Some(1)), ("n", None), ("a", Some(2))], true), (vec![], true), (vec![("a", Some(3))], false)] {
        for (key, value) in entries {
            maps.keys().append_value(key);
            maps.values().append_option(value);
        }
        maps.append(present).unwrap();
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("s", Arc::new(StringArray::from(vec![Some("Hello Wörld"), Some(""), None]))),
        ("u", Arc::new(StringArray::from(vec![Some("https://a.b/c/d/e?f"), Some("x"), None]))),
        ("i", Arc::new(Int32Array::from(vec![Some(7), Some(-7), None]))),
        ("l", Arc::new(Int64Array::from(vec![Some(10_000_000_000), Some(-3), None]))),
        ("d", Arc::new(Float64Array::from(vec![Some(2.5), Some(-0.5), None]))),
        ("dec", Arc::new(Decimal128Array::from(vec![Some(1234), Some(-5), None]).with_precision_and_scale(10, 2).unwrap())),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("ts", Arc::new(TimestampMillisecondArray::from(vec![Some(LEAP), Some(-1), None]))),
        ("dt", Arc::new(Date32Array::from(vec![Some(19_782), Some(-1), None]))),
        ("r", r),
        ("tss", Arc::new(StringArray::from(vec![Some("2024-02-29 13:45:59"), Some("nonsense"), None]))),
        ("m", Arc::new(maps.finish())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn evaluate(ty: &str, expr: &str) -> Result<String, String> {
    let sql = format!("{TABLE} CREATE TABLE o (c {ty}) WITH ('connector' = 'print'); INSERT INTO o SELECT {expr} FROM t;");
    let planned = planned(&sql);
    let columns = run_calcs(&planned.graph, &rows()).map_err(|error| error.strip_backtrace())?;
    let options = FormatOptions::default().with_null("NULL");
    let formatter = ArrayFormatter::try_new(columns[0].as_ref(), &options).unwrap();
    let values: Vec<String> = (0..columns[0].len()).map(|row| formatter.value(row).to_string()).collect();
    Ok(values.join(" | "))
}

fn check(cases: &[(&str, &str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(ty, expr, expected)| {
            let found = evaluate(ty, expr).unwrap_or_else(|error| format!("error: {error}"));
            (found != *expected).then(|| format!("{expr}\n  expected {expected}\n  found    {found}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn strings() {
    check(&[
        ("STRING", "UPPER(s)", "HELLO WÖRLD |  | NULL"),
        ("STRING", "lower(s)", "hello wörld |  | NULL"),
        ("STRING", "INITCAP('hELLO wORLD')", "Hello World | Hello World | Hello World"),
        ("STRING", "REVERSE(s)", "dlröW olleH |  | NULL"),
        ("STRING", "TRIM('  a b ')", "a b | a b | a b"),
        ("STRING", "TRIM(LEADING 'H' FROM s)", "ello Wörld |  | NULL"),
        ("STRING", "TRIM(TRAILING 'dl' FROM s)", "Hello Wör |  | NULL"),
        ("STRING", "RTRIM(' a ')", " a |  a |  a"),
        ("STRING", "SUBSTRING(s FROM 7 FOR 2)", "Wö |  | NULL"),
        ("STRING", "SUBSTRING(s, 7)", "Wörld |  | NULL"),
        ("STRING", "SUBSTR(s, -3, 2)", "rl |  | NULL"),
        ("STRING", "SUBSTR('abc', 0)", "abc | abc | abc"),
        ("INT", "CHAR_LENGTH(s)", "11 | 0 | NULL"),
        ("STRING", "CONCAT(s, '-', u)", "Hello Wörld-https://a.b/c/d/e?f | -x | NULL"),
        ("STRING", "s || '!'", "Hello Wörld! | ! | NULL"),
        ("STRING", "CONCAT_WS('+', u, CAST(NULL AS STRING), 'z')", "https://a.b/c/d/e?f+z | x+z | z"),
        ("STRING", "REPLACE(s, 'l', 'L')", "HeLLo WörLd |  | NULL"),
        ("INT", "POSITION('ö' IN s)", "8 | 0 | NULL"),
        ("STRING", "LPAD(u, 3, 'ab')", "htt | abx | NULL"),
        ("STRING", "RPAD(u, 4, 'ab')", "http | xaba | NULL"),
        ("STRING", "LEFT(s, 5)", "Hello |  | NULL"),
        ("STRING", "RIGHT(s, 5)", "Wörld |  | NULL"),
        ("STRING", "REPEAT(u, 0)", " |  | NULL"),
        ("STRING", "SPLIT_INDEX(u, '/', 3)", "c | NULL | NULL"),
        ("STRING", "SPLIT_INDEX(u, '/', 0)", "https: | x | NULL"),
        ("STRING", "SPLIT_INDEX(u, '//', 1)", "a.b/c/d/e?f | NULL | NULL"),
        ("STRING", "SPLIT_INDEX(u, 47, 5)", "e?f | NULL | NULL"),
        ("STRING", "SPLIT_INDEX(u, '/', -1)", "NULL | NULL | NULL"),
        ("STRING", "REGEXP_EXTRACT(u, '//([^/]+)/(.)', 2)", "c | NULL | NULL"),
        ("STRING", "REGEXP_REPLACE(u, '[a-e]', '<$0>')", "https://<a>.<b>/<c>/<d>/<e>?f | x | NULL"),
        ("BOOLEAN", "REGEXP(u, '^h')", "true | false | NULL"),
        ("STRING", "OVERLAY(u PLACING 'XX' FROM 1 FOR 5)", "XX://a.b/c/d/e?f | XX | NULL"),
        ("BOOLEAN", "STARTSWITH(u, 'htt')", "true | false | NULL"),
        ("INT", "ASCII(u)", "104 | 120 | NULL"),
        ("STRING", "CAST(s AS VARCHAR(5))", "Hello |  | NULL"),
    ]);
}

#[test]
fn conditions() {
    check(&[
        ("BOOLEAN", "s LIKE 'H%W_rld'", "true | false | NULL"),
        ("BOOLEAN", "s NOT LIKE '%o%'", "false | true | NULL"),
        ("BOOLEAN", "'50%' LIKE '50!%' ESCAPE '!'", "true | true | true"),
        ("BOOLEAN", "i IN (1, 7, 9)", "true | false | NULL"),
        ("BOOLEAN", "i NOT IN (1, NULL)", "NULL | NULL | NULL"),
        ("BOOLEAN", "i BETWEEN -7 AND 0", "false | true | NULL"),
        ("BOOLEAN", "i NOT BETWEEN -7 AND 0", "true | false | NULL"),
        ("BOOLEAN", "s IS NULL", "false | false | true"),
        ("BOOLEAN", "b IS NOT TRUE", "false | true | true"),
        ("BOOLEAN", "b AND NULL", "NULL | false | NULL"),
        ("BOOLEAN", "b OR NULL", "true | NULL | NULL"),
        ("BOOLEAN", "NOT b", "false | true | NULL"),
        ("BOOLEAN", "i IS DISTINCT FROM NULL", "true | true | false"),
        ("BOOLEAN", "dec > i", "true | true | NULL"),
        ("BOOLEAN", "ts > '2000-01-01 00:00:00'", "true | false | NULL"),
        ("BOOLEAN", "dt = DATE '2024-02-29'", "true | false | NULL"),
        ("STRING", "CASE WHEN i > 0 THEN 'pos' WHEN i < 0 THEN 'neg' ELSE 'none' END", "pos | neg | none"),
        ("STRING", "CASE i WHEN 7 THEN 'seven' END", "seven | NULL | NULL"),
        ("STRING", "CASE WHEN HOUR(ts) < 12 OR b IS NULL THEN 'x' WHEN MINUTE(ts) = 45 THEN s END", "Hello Wörld | NULL | x"),
        ("TIMESTAMP(3)", "CASE WHEN i = 7 THEN ts WHEN i < 0 THEN NULL END", "2024-02-29T13:45:59.123 | NULL | NULL"),
        ("DOUBLE", "CASE WHEN b THEN 1 ELSE 2.5 END", "1.0 | 2.5 | 2.5"),
        ("BIGINT", "COALESCE(i, l, 5)", "7 | -7 | 5"),
        ("INT", "NULLIF(i, 7)", "NULL | -7 | NULL"),
        ("STRING", "IF(b, 'y', 'n')", "y | n | n"),
        ("BIGINT", "GREATEST(i, l)", "10000000000 | -3 | NULL"),
        ("BIGINT", "LEAST(i, l, 0)", "0 | -7 | NULL"),
    ]);
}

#[test]
fn numbers() {
    check(&[
        ("INT", "i / 2", "3 | -3 | NULL"),
        ("INT", "i % 4", "3 | -3 | NULL"),
        ("INT", "MOD(i, 4)", "3 | -3 | NULL"),
        ("BIGINT", "i + l", "10000000007 | -10 | NULL"),
        ("INT", "2147483647 + i - i", "2147483647 | 2147483647 | NULL"),
        ("INT", "-i", "-7 | 7 | NULL"),
        ("DOUBLE", "i / d", "2.8 | 14.0 | NULL"),
        ("DECIMAL(23, 3)", "0.908 * l", "9080000000.000 | -2.724 | NULL"),
        ("DECIMAL(12, 2)", "dec + 1", "13.34 | 0.95 | NULL"),
        ("DECIMAL(14, 4)", "dec * 0.5", "6.1700 | -0.0250 | NULL"),
        ("DECIMAL(20, 6)", "dec / 3", "4.113333 | -0.016667 | NULL"),
        ("DECIMAL(10, 2)", "dec % 5", "2.34 | -0.05 | NULL"),
        ("DECIMAL(10, 1)", "dec", "12.3 | -0.1 | NULL"),
        ("INT", "ABS(i)", "7 | 7 | NULL"),
        ("DOUBLE", "CEIL(d)", "3.0 | -0.0 | NULL"),
        ("DOUBLE", "FLOOR(d)", "2.0 | -1.0 | NULL"),
        ("DECIMAL(10, 0)", "FLOOR(dec)", "12 | -1 | NULL"),
        ("DECIMAL(10, 0)", "CEIL(dec)", "13 | 0 | NULL"),
        ("DOUBLE", "ROUND(d)", "3.0 | -1.0 | NULL"),
        ("DECIMAL(11, 1)", "ROUND(dec, 1)", "12.3 | -0.1 | NULL"),
        ("DECIMAL(11, 1)", "TRUNCATE(dec, 1)", "12.3 | 0.0 | NULL"),
        ("INT", "ROUND(i, -1)", "10 | -10 | NULL"),
        ("DOUBLE", "POWER(i, 2)", "49.0 | 49.0 | NULL"),
        ("DOUBLE", "SQRT(16)", "4.0 | 4.0 | 4.0"),
        ("DOUBLE", "LN(EXP(1))", "1.0 | 1.0 | 1.0"),
        ("DOUBLE", "LOG10(1000)", "3.0 | 3.0 | 3.0"),
        ("INT", "SIGN(i)", "1 | -1 | NULL"),
    ]);
}

#[test]
fn times() {
    check(&[
        ("STRING", "DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm')", "2024-02-29 13:45 | 1969-12-31 23:59 | NULL"),
        ("STRING", "DATE_FORMAT(ts, 'yy/M/d h a')", "24/2/29 1 PM | 69/12/31 11 PM | NULL"),
        ("STRING", "DATE_FORMAT(ts, 'EEE d MMM yyyy HH:mm:ss.SSS')", "Thu 29 Feb 2024 13:45:59.123 | Wed 31 Dec 1969 23:59:59.999 | NULL"),
        ("STRING", "DATE_FORMAT(ts, 'yyyy''T''HH')", "2024T13 | 1969T23 | NULL"),
        ("STRING", "DATE_FORMAT(tss, 'yyyyMMdd')", "20240229 | NULL | NULL"),
        ("BIGINT", "EXTRACT(HOUR FROM ts)", "13 | 23 | NULL"),
        ("BIGINT", "YEAR(ts)", "2024 | 1969 | NULL"),
        ("BIGINT", "MONTH(dt)", "2 | 12 | NULL"),
        ("BIGINT", "DAYOFMONTH(ts)", "29 | 31 | NULL"),
        ("BIGINT", "HOUR(ts)", "13 | 23 | NULL"),
        ("BIGINT", "MINUTE(ts)", "45 | 59 | NULL"),
        ("BIGINT", "SECOND(ts)", "59 | 59 | NULL"),
        ("BIGINT", "EXTRACT(DOY FROM ts)", "60 | 365 | NULL"),
        ("BIGINT", "EXTRACT(WEEK FROM ts)", "9 | 1 | NULL"),
        ("BIGINT", "QUARTER(ts)", "1 | 4 | NULL"),
        ("BIGINT", "DAYOFWEEK(ts)", "5 | 4 | NULL"),
        ("TIMESTAMP(3)", "FLOOR(ts TO HOUR)", "2024-02-29T13:00:00 | 1969-12-31T23:00:00 | NULL"),
        ("TIMESTAMP(3)", "FLOOR(ts TO MONTH)", "2024-02-01T00:00:00 | 1969-12-01T00:00:00 | NULL"),
        ("TIMESTAMP(3)", "CEIL(ts TO DAY)", "2024-03-01T00:00:00 | 1970-01-01T00:00:00 | NULL"),
        ("TIMESTAMP(3)", "ts - INTERVAL '4' SECOND", "2024-02-29T13:45:55.123 | 1969-12-31T23:59:55.999 | NULL"),
        ("TIMESTAMP(3)", "ts + INTERVAL '1' YEAR", "2025-02-28T13:45:59.123 | 1970-12-31T23:59:59.999 | NULL"),
        ("TIMESTAMP(3)", "ts + INTERVAL '1 02:30' DAY TO MINUTE", "2024-03-01T16:15:59.123 | 1970-01-02T02:29:59.999 | NULL"),
        ("TIMESTAMP(3)", "TIMESTAMPADD(MONTH, 1, ts)", "2024-03-29T13:45:59.123 | 1970-01-31T23:59:59.999 | NULL"),
        ("TIMESTAMP(3)", "TIMESTAMPADD(SECOND, i, ts)", "2024-02-29T13:46:06.123 | 1969-12-31T23:59:52.999 | NULL"),
        ("INT", "TIMESTAMPDIFF(DAY, TIMESTAMP '2024-02-01 00:00:00', ts)", "28 | -19754 | NULL"),
        ("INT", "TIMESTAMPDIFF(MONTH, TIMESTAMP '2023-12-31 00:00:00', ts)", "2 | -647 | NULL"),
        ("TIMESTAMP(3)", "TO_TIMESTAMP(tss)", "2024-02-29T13:45:59 | NULL | NULL"),
        (
            "TIMESTAMP(3)",
            "TO_TIMESTAMP('29.2.2024 7:05', 'd.M.yyyy H:mm')",
            "2024-02-29T07:05:00 | 2024-02-29T07:05:00 | 2024-02-29T07:05:00",
        ),
        ("TIMESTAMP(3)", "TO_TIMESTAMP('2023-02-29', 'yyyy-MM-dd')", "NULL | NULL | NULL"),
        ("TIMESTAMP_LTZ(3)", "TO_TIMESTAMP_LTZ(l, 3)", "1970-04-26T17:46:40Z | 1969-12-31T23:59:59.997Z | NULL"),
        ("TIMESTAMP_LTZ(3)", "TO_TIMESTAMP_LTZ(i, 0)", "1970-01-01T00:00:07Z | 1969-12-31T23:59:53Z | NULL"),
        ("BIGINT", "UNIX_TIMESTAMP(tss)", "1709214359 | NULL | NULL"),
        ("STRING", "FROM_UNIXTIME(i)", "1970-01-01 00:00:07 | 1969-12-31 23:59:53 | NULL"),
        ("DATE", "TO_DATE('2024-02-29')", "2024-02-29 | 2024-02-29 | 2024-02-29"),
        ("STRING", "CAST(ts AS STRING)", "2024-02-29 13:45:59.123 | 1969-12-31 23:59:59.999 | NULL"),
        ("DATE", "CAST(ts AS DATE)", "2024-02-29 | 1969-12-31 | NULL"),
        ("TIMESTAMP(3)", "CAST('2024-02-29 13:45:59' AS TIMESTAMP(3))", "2024-02-29T13:45:59 | 2024-02-29T13:45:59 | 2024-02-29T13:45:59"),
    ]);
}

#[test]
fn casts_and_rows() {
    check(&[
        ("STRING", "CAST(i AS STRING)", "7 | -7 | NULL"),
        ("STRING", "CAST(b AS STRING)", "TRUE | FALSE | NULL"),
        ("STRING", "CAST(dec AS STRING)", "12.34 | -0.05 | NULL"),
        ("INT", "TRY_CAST(u AS INT)", "NULL | NULL | NULL"),
        ("INT", "CAST(d AS INT)", "2 | 0 | NULL"),
        ("DOUBLE", "CAST(dec AS DOUBLE)", "12.34 | -0.05 | NULL"),
        ("INT", "r.a", "10 | 20 | NULL"),
        ("STRING", "r.n.x", "x0 | NULL | NULL"),
        ("BIGINT", "t.r.n.y + 1", "2 | 3 | NULL"),
        ("BIGINT", "i", "7 | -7 | NULL"),
        ("STRING", "NULL", "NULL | NULL | NULL"),
    ]);
}

#[test]
fn failures_at_run_time_are_errors_and_not_wrong_values() {
    assert!(evaluate("INT", "i / (i - i)").unwrap_err().contains("zero"));
    assert!(evaluate("DECIMAL(20, 6)", "dec / (i - i)").unwrap_err().contains("zero"));
    assert!(evaluate("INT", "CAST(u AS INT)").unwrap_err().contains("https"));
    let sql = format!("{TABLE} CREATE TABLE o (c STRING NOT NULL) WITH ('connector' = 'print'); INSERT INTO o SELECT s FROM t;");
    let error = run_calcs(&planned(&sql).graph, &rows()).unwrap_err().strip_backtrace();
    assert!(error.contains("column c is NOT NULL"), "{error}");
}

#[test]
fn computed_columns_run_before_the_query() {
    let sql = "CREATE TABLE t (i INT, ts AS TO_TIMESTAMP_LTZ(l, 3), l BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'datagen');
        CREATE TABLE o (c STRING) WITH ('connector' = 'print');
        INSERT INTO o SELECT DATE_FORMAT(ts, 'ss.SSS') FROM t WHERE i = 7;";
    let columns = run_calcs(&planned(sql).graph, &rows()).unwrap();
    let text: &StringArray = columns[0].as_any().downcast_ref().unwrap();
    assert_eq!(text.iter().collect::<Vec<_>>(), vec![Some("40.000")]);
}

#[test]
fn values_of_maps_are_found_by_their_keys() {
    check(&[("INT", "m['a']", "2 | NULL | NULL"), ("INT", "m['n']", "NULL | NULL | NULL"), ("INT", "m['a'] + i", "9 | NULL | NULL")]);
}
