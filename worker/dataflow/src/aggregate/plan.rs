//! [pure] From aggregate calls to accumulators: which state columns there are, what feeds them, what results read.
//!
//! Calls share what they can: `SUM(x)` and `AVG(x)` with the same filter are one sum and one count; every distinct call
//! over `x` is one set of values. The columns' order is part of the state's layout and of the partials' format, and
//! depends on the calls only.

use arrow::datatypes::{DataType, Field};

use super::Input;
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::{AggregateCall, AggregateFunction};
use crate::state::keys::Kind;
use crate::state::rows::ValueSpec;

/// Filters of the distinct calls over one argument, at most: each has a bit of a word.
pub(crate) const MAX_FILTERS: usize = 63;
/// Digits of the sums and results of decimals.
pub(crate) const DECIMAL_DIGITS: u8 = 38;

/// What an accumulator does with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Counts (64-bit).
    Count,
    /// Adds 64-bit integers, wrapping.
    Sum,
    /// Adds 128-bit integers, wrapping.
    SumDouble,
    /// Adds floats exactly.
    SumFloat,
    /// Keeps the smallest or largest.
    Extreme {
        /// Largest, not smallest.
        max: bool,
    },
}

/// One accumulator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accumulator {
    pub(crate) step: Step,
    /// The argument's column in raw rows; `None` counts rows.
    pub(crate) argument: Option<usize>,
    pub(crate) argument_type: DataType,
    /// The filter's column in raw rows.
    pub(crate) filter: Option<usize>,
    /// Fed by the set of distinct values of its argument, not by rows.
    pub(crate) distinct: bool,
}

impl Accumulator {
    /// How its state is held: a row of state and a row of partials have the same columns.
    pub(crate) fn data_type(&self) -> DataType {
        let of_kind = |kind| match kind {
            Kind::Double => DataType::Decimal128(DECIMAL_DIGITS, 0),
            Kind::Bytes => DataType::Binary,
            _ => DataType::Int64,
        };
        match self.step {
            Step::Count | Step::Sum => DataType::Int64,
            Step::SumDouble => DataType::Decimal128(DECIMAL_DIGITS, 0),
            Step::SumFloat => DataType::Binary,
            Step::Extreme { .. } => Kind::of(&self.argument_type).map_or(DataType::Int64, of_kind),
        }
    }

    fn initial(&self) -> [u64; 2] {
        let Step::Extreme { max } = self.step else { return [0, 0] };
        match self.data_type() {
            DataType::Binary => [0, 0],
            DataType::Int64 => [if max { i64::MIN } else { i64::MAX } as u64, 0],
            _ => {
                let value = if max { i128::MIN } else { i128::MAX };
                [value as u64, (value >> 64) as u64]
            }
        }
    }

    fn name(&self) -> String {
        let step = match self.step {
            Step::Count => "count",
            Step::Sum | Step::SumDouble | Step::SumFloat => "sum",
            Step::Extreme { max: false } => "min",
            Step::Extreme { max: true } => "max",
        };
        let distinct = if self.distinct { "distinct " } else { "" };
        let argument = self.argument.map_or("*".to_owned(), |column| column.to_string());
        let filter = self.filter.map_or(String::new(), |column| format!(" where {column}"));
        format!("{step}({distinct}{argument}){filter}")
    }
}

/// A set of the values of one argument, by group.
#[derive(Debug, Clone)]
pub(crate) struct SetPlan {
    pub(crate) argument: usize,
    pub(crate) argument_type: DataType,
    /// The filters under which values are counted; a filter's place is its bit.
    pub(crate) filters: Vec<Option<usize>>,
    /// For each filter, the accumulators (by number) that its distinct values feed.
    pub(crate) feeds: Vec<Vec<usize>>,
    /// Extremes that are read from the set: filter bit, accumulator. Change-logs only.
    pub(crate) extremes: Vec<(usize, usize)>,
}

/// How a call's result comes out of accumulators (by number).
#[derive(Debug, Clone)]
pub(crate) struct Finish {
    pub(crate) function: AggregateFunction,
    /// The sum or extreme; for counts the count.
    pub(crate) value: usize,
    /// Null where it is not positive; the divisor of averages.
    pub(crate) count: usize,
    pub(crate) argument_type: DataType,
    pub(crate) result_type: DataType,
}

/// The accumulators of a list of calls. Accumulator 0 counts the raw rows.
#[derive(Debug, Clone)]
pub(crate) struct AggregatePlan {
    /// First those fed by rows (their columns are the partials'), then those fed by sets.
    pub(crate) accumulators: Vec<Accumulator>,
    /// How many of them are fed by rows.
    pub(crate) plain: usize,
    pub(crate) sets: Vec<SetPlan>,
    pub(crate) finishes: Vec<Finish>,
}

/// Accumulator 0.
pub(crate) const ROWS: usize = 0;

impl AggregatePlan {
    pub(crate) fn new(calls: &[AggregateCall], input: Input) -> Result<Self> {
        let rows = Accumulator { step: Step::Count, argument: None, argument_type: DataType::Null, filter: None, distinct: false };
        let mut plan = Self { accumulators: vec![rows], plain: 1, sets: Vec::new(), finishes: Vec::with_capacity(calls.len()) };
        // Two passes, so that the plain accumulators come first.
        let is_distinct = |call: &AggregateCall| call.distinct && !matches!(call.function, AggregateFunction::Min | AggregateFunction::Max);
        for call in calls.iter().filter(|call| !is_distinct(call)) {
            plan.place(call, false)?;
        }
        plan.plain = plan.accumulators.len();
        for call in calls.iter().filter(|call| is_distinct(call)) {
            plan.place(call, true)?;
        }
        for call in calls {
            let (value, count) = plan.place(call, is_distinct(call))?;
            plan.finishes.push(Finish {
                function: call.function,
                value,
                count,
                argument_type: call.argument_type.clone(),
                result_type: call.result_type.clone(),
            });
        }
        for number in 0..plan.accumulators.len() {
            plan.place_in_set(number, input)?;
        }
        Ok(plan)
    }

    /// The numbers of a call's value and count accumulators, added where they are not there yet.
    fn place(&mut self, call: &AggregateCall, distinct: bool) -> Result<(usize, usize)> {
        let Some(argument) = call.argument else {
            if call.function != AggregateFunction::Count {
                return Err(invalid(call, "needs an argument"));
            }
            let number = if call.filter.is_none() { ROWS } else { self.add(call, Step::Count, false) };
            return Ok((number, number));
        };
        let count = self.add(call, Step::Count, distinct);
        let step = match call.function {
            AggregateFunction::Count => return Ok((count, count)),
            AggregateFunction::Sum | AggregateFunction::Avg => match Kind::of(&call.argument_type)? {
                Kind::Null | Kind::Signed(_) | Kind::Unsigned(_) if !is_temporal(&call.argument_type) => Step::Sum,
                Kind::Double => Step::SumDouble,
                Kind::Float(_) => Step::SumFloat,
                _ => return Err(invalid(call, &format!("cannot add values of {} (column {argument})", call.argument_type))),
            },
            AggregateFunction::Min => Step::Extreme { max: false },
            AggregateFunction::Max => Step::Extreme { max: true },
        };
        Ok((self.add(call, step, distinct), count))
    }

    fn add(&mut self, call: &AggregateCall, step: Step, distinct: bool) -> usize {
        let wanted =
            Accumulator { step, argument: call.argument, argument_type: call.argument_type.clone(), filter: call.filter, distinct };
        self.accumulators.iter().position(|there| *there == wanted).unwrap_or_else(|| {
            self.accumulators.push(wanted);
            self.accumulators.len() - 1
        })
    }

    /// Registers an accumulator with the set that feeds it, if one does.
    fn place_in_set(&mut self, number: usize, input: Input) -> Result<()> {
        let accumulator = &self.accumulators[number];
        let extreme = matches!(accumulator.step, Step::Extreme { .. }) && input == Input::Changelog;
        let Some(argument) = accumulator.argument.filter(|_| accumulator.distinct || extreme) else { return Ok(()) };
        let place = self.sets.iter().position(|set| set.argument == argument).unwrap_or_else(|| {
            self.sets.push(SetPlan {
                argument,
                argument_type: accumulator.argument_type.clone(),
                filters: Vec::new(),
                feeds: Vec::new(),
                extremes: Vec::new(),
            });
            self.sets.len() - 1
        });
        let set = &mut self.sets[place];
        let bit = set.filters.iter().position(|filter| *filter == accumulator.filter).unwrap_or_else(|| {
            set.filters.push(accumulator.filter);
            set.feeds.push(Vec::new());
            set.filters.len() - 1
        });
        if bit >= MAX_FILTERS {
            let message = format!("more than {MAX_FILTERS} filters over distinct values of one argument");
            return Err(DataflowError::new("aggregate", ErrorKind::User, message));
        }
        if extreme {
            set.extremes.push((bit, number));
        } else {
            set.feeds[bit].push(number);
        }
        Ok(())
    }

    /// The value columns of the groups' rows.
    pub(crate) fn values(&self) -> Vec<ValueSpec> {
        let state = |accumulator: &Accumulator| ValueSpec {
            name: accumulator.name(),
            data_type: accumulator.data_type(),
            initial: accumulator.initial(),
            persisted: true,
        };
        // The chain of a set's values, or how many there are: rebuilt by a restore.
        let head = |set: &SetPlan| ValueSpec {
            name: format!("values of {}", set.argument),
            data_type: DataType::Int64,
            initial: [0, 0],
            persisted: false,
        };
        self.accumulators.iter().map(state).chain(self.sets.iter().map(head)).collect()
    }

    /// The columns of partials after the keys and the count of rows.
    pub(crate) fn partial_fields(&self) -> Vec<Field> {
        let plain =
            self.accumulators[1..self.plain].iter().map(|accumulator| Field::new(accumulator.name(), accumulator.data_type(), false));
        let sets =
            self.sets.iter().map(|set| Field::new(format!("values of {}", set.argument), DataType::List(set.element_field()), false));
        plain.chain(sets).collect()
    }
}

impl SetPlan {
    /// An element of a set in partials: the value and the bits of the filters that it passed.
    pub(crate) fn element_field(&self) -> arrow::datatypes::FieldRef {
        let fields = vec![Field::new("value", self.argument_type.clone(), true), Field::new("filters", DataType::Int64, false)];
        Field::new("item", DataType::Struct(fields.into()), false).into()
    }
}

fn is_temporal(data_type: &DataType) -> bool {
    data_type.is_temporal()
}

fn invalid(call: &AggregateCall, message: &str) -> DataflowError {
    DataflowError::new(&call.name, ErrorKind::User, message)
}
