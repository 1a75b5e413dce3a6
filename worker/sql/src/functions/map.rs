//! [pure] Access to values of MAP columns.

use arrow::array::{Array, AsArray, Int32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::Expr;

use crate::coerce::Typed;
use crate::functions::call;

/// `map['key']`: null where the map has no such key. Of keys that come twice the last counts, as in Flink's maps.
pub(crate) fn element(map: Expr, key: &str, ty: DataType) -> Typed {
    let args = vec![map, Expr::Literal(ScalarValue::from(key), None)];
    let key = key.to_owned();
    call("element", args, ty, move |args, rows| {
        let array = args[0].to_array(rows)?;
        let map = array.as_map_opt().ok_or_else(|| DataFusionError::Internal("access by key to a type that is no map".into()))?;
        let (keys, offsets) = (map.keys().as_string::<i32>(), map.value_offsets());
        let place = |row: usize| {
            let mut entries = (offsets[row]..offsets[row + 1]).rev();
            entries.find(|entry| map.is_valid(row) && keys.value(*entry as usize) == key)
        };
        Ok(take(map.values(), &(0..map.len()).map(place).collect::<Int32Array>(), None)?)
    })
}
