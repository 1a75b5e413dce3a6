//! A table in memory that answers when it is told to, in any order.

use std::cell::RefCell;
use std::rc::Rc;

use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::cache::Rows;
use super::*;
use crate::graph::LookupSpec;
use crate::lookup::CachePolicy;
use crate::sim::oracle::texts;

/// A table in memory that answers when it is told to, and notes what it was asked for.
#[derive(Default)]
struct Desk {
    rows: Vec<(&'static str, i64)>,
    asked: Vec<(Ticket, Vec<String>)>,
    /// Keys of all requests.
    heard: Vec<Vec<String>>,
    answers: VecDeque<Answer>,
}

type Shared = Rc<RefCell<Desk>>;

struct Table(Shared);

impl LookupTable for Table {
    fn ask(&mut self, ticket: Ticket, keys: RecordBatch) -> Result<()> {
        let keys: Vec<String> = keys.column(0).as_string::<i32>().iter().map(|key| key.unwrap().to_owned()).collect();
        self.0.borrow_mut().heard.push(keys.clone());
        self.0.borrow_mut().asked.push((ticket, keys));
        Ok(())
    }

    fn answer(&mut self) -> Result<Option<Answer>> {
        Ok(self.0.borrow_mut().answers.pop_front())
    }
}

impl Desk {
    /// Answers the `nth` of the open requests.
    fn reply(&mut self, nth: usize) {
        let (ticket, asked) = self.asked.remove(nth);
        let found = asked.iter().enumerate().flat_map(|(number, key)| {
            let rows = self.rows.iter().filter(move |(of, _)| of == key);
            rows.map(move |(_, value)| (number as u32, *value))
        });
        let (keys, values): (Vec<u32>, Vec<i64>) = found.unzip();
        let rows = RecordBatch::try_new(columns(), vec![Arc::new(Int64Array::from(values))]).unwrap();
        self.answers.push_back(Answer { ticket, rows, keys });
    }
}

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("rate", DataType::Int64, true)]))
}

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("currency", DataType::Utf8, true)]))
}

struct Bench {
    join: LookupJoin,
    desk: Shared,
    epoch: u64,
}

const KEEP: CachePolicy = CachePolicy { max_rows: 100, expire_after_write: None, expire_after_access: None, missing: true };

impl Bench {
    fn new(outer: bool, cache: Option<CachePolicy>, rows: &[(&'static str, i64)]) -> Self {
        let keys = Arc::new(Schema::new(vec![Field::new("currency", DataType::Utf8, true)]));
        let table = LookupSpec { table: "rates".into(), options: BTreeMap::new(), keys, columns: columns() };
        let spec = LookupJoinSpec { table, keys: vec![1], outer };
        let fields = input().fields().iter().chain(columns().fields()).cloned().collect::<Vec<_>>();
        let desk = Rc::new(RefCell::new(Desk { rows: rows.to_vec(), ..Desk::default() }));
        let table = Box::new(Table(Rc::clone(&desk)));
        let join = LookupJoin::new("lookup".into(), &spec, &input(), &Arc::new(Schema::new(fields)), table, cache);
        Self { join: join.unwrap(), desk, epoch: 0 }
    }

    fn batch(&mut self, rows: &[(i64, Option<&str>)]) -> (Progress, Vec<String>) {
        let (ids, keys): (Vec<i64>, Vec<Option<&str>>) = rows.iter().copied().unzip();
        let batch = RecordBatch::try_new(input(), vec![Arc::new(Int64Array::from(ids)), Arc::new(StringArray::from(keys))]).unwrap();
        let mut out = Output::default();
        let progress = self.join.on_batch(0, &batch, &mut out).unwrap();
        self.rest(progress, out)
    }

    /// Replies to the open requests in this order, and goes on after each.
    fn reply(&mut self, order: &[usize]) -> (Progress, Vec<String>) {
        let mut out = Output::default();
        let mut progress = Progress::Done;
        for nth in order {
            self.desk.borrow_mut().reply(*nth);
            progress = self.join.resume(&mut out).unwrap();
        }
        self.rest(progress, out)
    }

    fn rest(&mut self, mut progress: Progress, mut out: Output) -> (Progress, Vec<String>) {
        while progress == Progress::More {
            progress = self.join.resume(&mut out).unwrap();
        }
        (progress, out.batches.iter().flat_map(|batch| texts(batch).unwrap()).collect())
    }

    /// All in one: what a batch gives when the table answers at once.
    fn through(&mut self, rows: &[(i64, Option<&str>)]) -> Vec<String> {
        let (progress, mut texts) = self.batch(rows);
        if progress != Progress::Done {
            let open = self.desk.borrow().asked.len();
            let (progress, more) = self.reply(&vec![0; open]);
            assert_eq!(progress, Progress::Done);
            texts.extend(more);
        }
        texts
    }

    fn at(&mut self, wall_time: Millis) {
        self.epoch += 1;
        let end = EpochEnd { epoch: self.epoch, wall_time, watermark: 0 };
        assert_eq!(self.join.on_epoch_end(&end, &mut Output::default()).unwrap(), Progress::Done);
    }

    fn heard(&self) -> Vec<String> {
        self.desk.borrow_mut().heard.drain(..).map(|keys| keys.join(" ")).collect()
    }
}

const RATES: [(&str, i64); 4] = [("eur", 114), ("jpy", 1), ("eur", 116), ("usd", 100)];

#[test]
fn inner_drops_and_left_fills_what_has_no_row_and_a_null_matches_nothing() {
    let rows = [(1, Some("usd")), (2, None), (3, Some("eur")), (4, Some("xyz")), (5, Some("usd"))];
    for cache in [None, Some(KEEP)] {
        let mut inner = Bench::new(false, cache, &RATES);
        assert_eq!(inner.through(&rows), ["1 | usd | 100", "3 | eur | 114", "3 | eur | 116", "5 | usd | 100"]);
        assert_eq!(inner.heard(), ["usd eur xyz"]);
        let mut left = Bench::new(true, cache, &RATES);
        let expected = ["1 | usd | 100", "2 | null | null", "3 | eur | 114", "3 | eur | 116", "4 | xyz | null", "5 | usd | 100"];
        assert_eq!(left.through(&rows), expected);
        // Known now, or asked for again.
        assert_eq!(left.through(&rows), expected);
        assert_eq!(left.heard().len(), if cache.is_some() { 1 } else { 2 });
    }
}

#[test]
fn batches_leave_in_their_order_whatever_the_order_of_answers() {
    let mut bench = Bench::new(false, Some(KEEP), &RATES);
    let waits = Progress::Waiting { room: true };
    assert_eq!(bench.batch(&[(1, Some("usd"))]), (waits, vec![]));
    assert_eq!(bench.batch(&[(2, Some("eur")), (3, Some("usd"))]), (waits, vec![]));
    // Under way already, so nothing is asked; and a batch that needs nothing still waits for those before it.
    assert_eq!(bench.batch(&[(4, Some("eur"))]), (waits, vec![]));
    assert_eq!(bench.batch(&[(5, None)]), (waits, vec![]));
    assert_eq!(bench.heard(), ["usd", "eur"]);
    assert_eq!(bench.reply(&[1]), (waits, vec![]));
    let all = ["1 | usd | 100", "2 | eur | 114", "2 | eur | 116", "3 | usd | 100", "4 | eur | 114", "4 | eur | 116"];
    assert_eq!(bench.reply(&[0]), (Progress::Done, all.map(str::to_owned).to_vec()));
}

#[test]
fn keys_are_asked_for_in_requests_of_bounded_size_and_waiting_is_bounded() {
    let mut bench = Bench::new(true, None, &RATES);
    let names: Vec<String> = (0..MAX_KEYS + 1).map(|n| format!("k{n}")).collect();
    let rows: Vec<(i64, Option<&str>)> = names.iter().map(|name| (0, Some(name.as_str()))).collect();
    assert_eq!(bench.batch(&rows).0, Progress::Waiting { room: true });
    assert_eq!(bench.desk.borrow().asked.iter().map(|(_, keys)| keys.len()).collect::<Vec<_>>(), [MAX_KEYS, 1]);
    for more in 1..MAX_WAITING_BATCHES {
        assert_eq!(bench.batch(&[(0, Some("usd"))]).0, Progress::Waiting { room: more + 1 < MAX_WAITING_BATCHES });
    }
    let (progress, texts) = bench.reply(&[2, 1, 0]);
    assert_eq!((progress, texts.len()), (Progress::Done, MAX_KEYS + MAX_WAITING_BATCHES));
    let many: Vec<(i64, Option<&str>)> = vec![(0, Some("usd")); MAX_WAITING_ROWS];
    assert_eq!(bench.batch(&many).0, Progress::Waiting { room: false });
}

#[test]
fn a_key_of_many_rows_leaves_in_batches() {
    let rates: Vec<(&str, i64)> = (0..MAX_BATCH_ROWS as i64 + 5).map(|n| ("eur", n)).collect();
    let mut bench = Bench::new(false, Some(CachePolicy { max_rows: 100_000, ..KEEP }), &rates);
    for _ in 0..2 {
        let texts = bench.through(&[(1, Some("eur")), (2, Some("eur"))]);
        assert_eq!(texts.len(), 2 * rates.len());
        let expected = (1..3).flat_map(|id| (0..rates.len()).map(move |n| format!("{id} | eur | {n}")));
        assert!(texts.into_iter().eq(expected));
    }
}

#[test]
fn answers_age_with_the_ticks() {
    let policy = CachePolicy { expire_after_write: Some(100), ..KEEP };
    let mut bench = Bench::new(false, Some(policy), &[("usd", 1)]);
    bench.at(10_000);
    assert_eq!(bench.through(&[(1, Some("usd"))]), ["1 | usd | 1"]);
    bench.desk.borrow_mut().rows = vec![("usd", 2)];
    bench.at(10_099);
    assert_eq!(bench.through(&[(2, Some("usd"))]), ["2 | usd | 1"]);
    bench.at(10_100);
    assert_eq!(bench.through(&[(3, Some("usd"))]), ["3 | usd | 2"]);
    assert_eq!(bench.heard().len(), 2);
    // By use: each one counts anew.
    let policy = CachePolicy { expire_after_access: Some(100), ..KEEP };
    let mut bench = Bench::new(false, Some(policy), &[("usd", 1)]);
    for (time, asked) in [(1_000, 1), (1_090, 0), (1_180, 0), (1_280, 1)] {
        bench.at(time);
        bench.through(&[(1, Some("usd"))]);
        assert_eq!(bench.heard().len(), asked, "{time}");
    }
}

#[test]
fn missing_keys_are_remembered_when_that_is_wanted() {
    for missing in [true, false] {
        let mut bench = Bench::new(true, Some(CachePolicy { missing, ..KEEP }), &RATES);
        for _ in 0..2 {
            assert_eq!(bench.through(&[(1, Some("xyz"))]), ["1 | xyz | null"]);
        }
        assert_eq!(bench.heard().len(), if missing { 1 } else { 2 });
    }
}

#[test]
fn the_key_that_was_not_used_for_longest_goes_first() {
    let mut bench = Bench::new(false, Some(CachePolicy { max_rows: 3, ..KEEP }), &RATES);
    // Two rows and one; then `jpy` takes the place of `eur`.
    for key in ["eur", "usd", "usd", "jpy", "usd", "eur"] {
        bench.through(&[(1, Some(key))]);
    }
    assert_eq!(bench.heard(), ["eur", "usd", "jpy", "eur"]);
}

/// Against a plain model: the same keys are known, with the same rows, through evictions and moves.
#[test]
fn a_cache_keeps_what_a_plain_one_would() {
    // Short enough that some keys age before they are evicted.
    const AGE: Millis = 20;
    let policy = CachePolicy { max_rows: 500, expire_after_write: Some(AGE), ..KEEP };
    let mut cache = Cache::new(policy);
    // Key, rows, time of writing; the last one is the one used last.
    let mut model: Vec<(u64, Vec<i64>, Millis)> = Vec::new();
    let mut draw = 1_u64;
    let mut next = |bound: u64| {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (draw >> 33) % bound
    };
    for now in 0..6_000 {
        let key = next(400);
        let bytes = key.to_be_bytes();
        // Many keys of one hash.
        let found = cache.get(key % 7, &bytes, now);
        let found = found.map(|Rows { chunk, start, len }| match len {
            0 => vec![],
            _ => {
                let rows = cache.chunk(chunk).unwrap().slice(start as usize, len as usize);
                rows.column(0).as_primitive::<Int64Type>().values().to_vec()
            }
        });
        let at = model.iter().position(|(of, ..)| *of == key);
        let known = at.map(|at| model.remove(at)).filter(|(.., written)| now - written < AGE);
        assert_eq!(found, known.as_ref().map(|(_, rows, _)| rows.clone()), "{now}");
        if let Some(known) = known {
            model.push(known);
            continue;
        }
        let count = if next(10) == 0 { 300 } else { next(4) };
        let rows: Vec<i64> = (0..count as i64).map(|row| now * 1_000 + row).collect();
        let batch = RecordBatch::try_new(columns(), vec![Arc::new(Int64Array::from(rows.clone()))]).unwrap();
        cache.put(&batch, std::iter::once((key % 7, Box::from(bytes), 0, count as u32)), now).unwrap();
        let weight = |model: &[(u64, Vec<i64>, Millis)]| model.iter().map(|(_, rows, _)| rows.len().max(1)).sum::<usize>();
        while weight(&model) + rows.len().max(1) > policy.max_rows {
            model.remove(0);
        }
        model.push((key, rows, now));
        let (kept, held) = cache.size();
        assert_eq!(kept, weight(&model));
        assert!(held <= 2 * policy.max_rows + 5_000, "{held} rows are held for {kept}");
    }
}
