//! What a calc filters, projects and carries along.

use arrow::array::{Int64Array, StringArray, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::Operator as Op;
use datafusion_physical_expr::expressions::{BinaryExpr, CastExpr, lit};

use super::*;
use crate::changelog::KIND_COLUMN;

fn input() -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("unused", DataType::Utf8, true),
        Field::new("price", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
    ]));
    RecordBatch::try_new(
        schema,
        vec![
            Arc::new(Int64Array::from(vec![0, 1, 2, 3])),
            Arc::new(StringArray::from(vec!["a", "b", "c", "d"])),
            Arc::new(Int64Array::from(vec![Some(10), None, Some(30), Some(40)])),
            Arc::new(StringArray::from(vec!["1", "2", "x", "4"])),
        ],
    )
    .unwrap()
}

fn column(name: &str, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, index))
}

fn binary(left: Arc<dyn PhysicalExpr>, op: Op, right: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    Arc::new(BinaryExpr::new(left, op, right))
}

fn calc(filter: Option<Arc<dyn PhysicalExpr>>, project: Vec<Arc<dyn PhysicalExpr>>) -> Calc {
    let input = input().schema();
    let fields: Vec<Field> =
        project.iter().enumerate().map(|(n, expr)| Field::new(format!("c{n}"), expr.data_type(&input).unwrap(), true)).collect();
    Calc::new("calc".into(), &CalcSpec { filter, project }, &input, &Arc::new(Schema::new(fields)), false).unwrap()
}

fn ints(batch: &RecordBatch, column: usize) -> Vec<Option<i64>> {
    batch.column(column).as_primitive::<arrow::datatypes::Int64Type>().iter().collect()
}

#[test]
fn plain_columns_without_filter_are_shared() {
    let batch = input();
    let out = calc(None, vec![column("price", 2), column("id", 0), column("price", 2)]).apply(&batch).unwrap().unwrap();
    for (at, from) in [(0, 2), (1, 0), (2, 2)] {
        assert!(Arc::ptr_eq(out.column(at), batch.column(from)));
    }
}

#[test]
fn a_filter_that_takes_all_rows_copies_nothing_and_one_that_takes_none_emits_nothing() {
    let batch = input();
    let all = calc(Some(binary(column("id", 0), Op::GtEq, lit(0i64))), vec![column("id", 0)]);
    assert!(Arc::ptr_eq(all.apply(&batch).unwrap().unwrap().column(0), batch.column(0)));
    let none = calc(Some(binary(column("id", 0), Op::Lt, lit(0i64))), vec![column("id", 0)]);
    assert!(none.apply(&batch).unwrap().is_none());
    for (scalar, rows) in [(lit(true), Some(4)), (lit(false), None), (lit(ScalarValue::Boolean(None)), None)] {
        let out = calc(Some(scalar), vec![column("id", 0)]).apply(&batch).unwrap();
        assert_eq!(out.map(|batch| batch.num_rows()), rows);
    }
}

#[test]
fn rows_where_the_filter_is_null_are_dropped_and_projections_see_only_the_others() {
    let filter = binary(column("price", 2), Op::GtEq, lit(20i64));
    let project = vec![binary(column("price", 2), Op::Multiply, lit(2i64)), lit(7i64), column("id", 0)];
    let out = calc(Some(filter), project).apply(&input()).unwrap().unwrap();
    assert_eq!(ints(&out, 0), [Some(60), Some(80)]);
    assert_eq!(ints(&out, 1), [Some(7), Some(7)]);
    assert_eq!(ints(&out, 2), [Some(2), Some(3)]);
}

#[test]
fn a_filter_guards_the_projection_from_rows_that_it_cannot_take() {
    let number: Arc<dyn PhysicalExpr> = Arc::new(CastExpr::new(column("text", 3), DataType::Int64, None));
    let guarded = calc(Some(binary(column("text", 3), Op::NotEq, lit("x"))), vec![Arc::clone(&number)]);
    assert_eq!(ints(&guarded.apply(&input()).unwrap().unwrap(), 0), [Some(1), Some(2), Some(4)]);
    let error = calc(None, vec![number]).apply(&input()).unwrap_err();
    assert_eq!((error.place.as_str(), error.kind), ("calc", ErrorKind::Data));
    assert!(error.message.contains("CAST(text AS"), "{error}");
    assert!(!error.message.contains("@"), "{error}");
}

#[test]
fn division_by_zero_names_the_expression() {
    let error = calc(None, vec![binary(lit(1i64), Op::Divide, column("id", 0))]).apply(&input()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Data);
    assert!(error.message.starts_with("1 / id: "), "{error}");
}

#[test]
fn projections_without_columns_keep_the_number_of_rows() {
    let filter = binary(column("id", 0), Op::Gt, lit(0i64));
    let out = calc(Some(filter), vec![]).apply(&input()).unwrap().unwrap();
    assert_eq!((out.num_rows(), out.num_columns()), (3, 0));
}

#[test]
fn the_kind_column_is_carried_along() {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new(KIND_COLUMN, DataType::UInt8, false)]));
    let kinds = UInt8Array::from(vec![0u8, 1, 2]);
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(vec![5, 6, 7])), Arc::new(kinds)]).unwrap();
    let spec = CalcSpec { filter: Some(binary(column("id", 0), Op::Gt, lit(5i64))), project: vec![column("id", 0)] };
    let out = Calc::new("calc".into(), &spec, &schema, &schema, true).unwrap().apply(&batch).unwrap().unwrap();
    assert_eq!(out.column(1).as_primitive::<arrow::datatypes::UInt8Type>().values(), &[1, 2]);
}

#[test]
fn expressions_that_do_not_give_the_schema_are_a_bug() {
    let input = input().schema();
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true)]));
    for project in [vec![column("id", 0)], vec![]] {
        let error = Calc::new("calc".into(), &CalcSpec { filter: None, project }, &input, &schema, false).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Bug);
    }
}
