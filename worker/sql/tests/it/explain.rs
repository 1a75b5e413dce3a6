//! Plans of representative queries.

use expect_test::{Expect, expect};

use crate::support::explained;

const ORDERS: &str = "CREATE TABLE orders (
    id BIGINT NOT NULL, name STRING, amount DECIMAL(10, 2), ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'datagen');
";

fn check(rest: &str, expected: Expect) {
    expected.assert_eq(&explained(&format!("{ORDERS}{rest}")));
}

#[test]
fn inserts_share_sources_views_and_operators_with_state() {
    check(
        "CREATE VIEW counted AS SELECT name, COUNT(*) AS num, SUM(amount) AS total, window_start, window_end
           FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY name, window_start, window_end;
         CREATE TABLE a (name STRING, num BIGINT) WITH ('connector' = 'print');
         CREATE TABLE b (total DECIMAL(38, 2), ending TIMESTAMP(3)) WITH ('connector' = 'print');
         CREATE TABLE c (id BIGINT) WITH ('connector' = 'print');
         EXECUTE STATEMENT SET BEGIN
           INSERT INTO a SELECT name, num FROM counted;
           INSERT INTO b SELECT total, window_end FROM counted;
           INSERT INTO c SELECT id FROM orders WHERE amount > 5;
         END;",
        expect![[r#"
            sink:a  sink a (print)
              calc:orders:22dd1569  name, num
                window-aggregate:orders:0fb937c1  TUMBLE 10s, COUNT(*), SUM(amount) by name [state: TUMBLE 10s keys(STRING) calls(COUNT(*), SUM(DECIMAL(10, 2)))]
                  local-window-aggregate:orders:ae537498  partial TUMBLE 10s, COUNT(*), SUM(amount) by name => hash(name)
                    calc:orders:e1d9e64f  name, ts AS rowtime, amount
                      source:orders  source orders (datagen): id, name, amount, ts, watermark ts - 5s
            sink:b  sink b (print)
              calc:orders:0192cc6a  total, window_end AS ending
                window-aggregate:orders:0fb937c1 (see above)
            sink:c  sink c (print)
              calc:orders:a10d81cc  id WHERE amount > 5.00
                source:orders (see above)
        "#]],
    );
}

#[test]
fn group_windows_and_their_auxiliary_functions() {
    check(
        "CREATE TABLE o (name STRING, starting TIMESTAMP(3), ending TIMESTAMP(3), rt TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print');
         INSERT INTO o SELECT name, HOP_START(ts, INTERVAL '2' SECOND, INTERVAL '5' SECOND), HOP_END(ts, INTERVAL '2' SECOND, INTERVAL '5' SECOND),
           HOP_ROWTIME(ts, INTERVAL '2' SECOND, INTERVAL '5' SECOND), COUNT(DISTINCT id) FILTER (WHERE amount > 1)
         FROM orders GROUP BY name, HOP(ts, INTERVAL '2' SECOND, INTERVAL '5' SECOND) HAVING COUNT(*) > 1;",
        expect![[r#"
            sink:o  sink o (print)
              calc:orders:118de2d7  name, window_start AS starting, window_end AS ending, window_time AS rt, EXPR$4 AS n WHERE agg1 > 1
                window-aggregate:orders:e99f59f6  HOP 5s every 2s, COUNT(DISTINCT id) FILTER (WHERE CAST(amount AS DECIMAL(12, 2)) > 1.00), COUNT(*) by name [state: HOP 5s every 2s keys(STRING) calls(COUNT(DISTINCT BIGINT) FILTER, COUNT(*))]
                  local-window-aggregate:orders:531478dd  partial HOP 5s every 2s, COUNT(DISTINCT id) FILTER (WHERE CAST(amount AS DECIMAL(12, 2)) > 1.00), COUNT(*) by name => hash(name)
                    calc:orders:44748ebe  name, ts AS rowtime, id, amount > 1.00 AS filter
                      source:orders  source orders (datagen): id, name, amount, ts, watermark ts - 5s
        "#]],
    );
}

#[test]
fn windows_of_windows() {
    check(
        "CREATE VIEW small AS SELECT name, COUNT(*) AS n, window_start, window_end, window_time
           FROM TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' SECOND) GROUP BY name, window_start, window_end, window_time;
         CREATE VIEW again AS SELECT n, window_time AS wt FROM small;
         CREATE TABLE o (n BIGINT, s TIMESTAMP(3), e TIMESTAMP(3)) WITH ('connector' = 'print');
         INSERT INTO o SELECT SUM(n), window_start, window_end
           FROM TABLE(CUMULATE(TABLE again, DESCRIPTOR(wt), INTERVAL '1' MINUTE, INTERVAL '1' HOUR)) GROUP BY window_start, window_end;",
        expect![[r#"
            sink:o  sink o (print)
              calc:orders:dcb96d88  EXPR$0 AS n, window_start AS s, window_end AS e
                window-aggregate:orders:6a175061  CUMULATE 1h by 1min, SUM(n) [state: CUMULATE 1h by 1min keys() calls(SUM(BIGINT))]
                  local-window-aggregate:orders:da1e0913  partial CUMULATE 1h by 1min, SUM(n) => all to one
                    calc:orders:c7da9791  window_time AS rowtime, n
                      window-aggregate:orders:a2a031fa  TUMBLE 1s, COUNT(*) by name [state: TUMBLE 1s keys(STRING) calls(COUNT(*))]
                        local-window-aggregate:orders:d2e7d91d  partial TUMBLE 1s, COUNT(*) by name => hash(name)
                          calc:orders:72ba7e44  name, ts AS rowtime
                            source:orders  source orders (datagen): name, ts, watermark ts - 5s
        "#]],
    );
}

#[test]
fn aggregating_the_rows_of_a_window_again() {
    check(
        "CREATE TABLE o (most BIGINT, s TIMESTAMP(3), e TIMESTAMP(3)) WITH ('connector' = 'print');
         INSERT INTO o SELECT MAX(n), ws, we FROM (
           SELECT COUNT(*) AS n, window_start AS ws, window_end AS we
           FROM TABLE(HOP(TABLE orders, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECOND)) GROUP BY name, window_start, window_end)
         GROUP BY ws, we;",
        expect![[r#"
            sink:o  sink o (print)
              calc:orders:8dd60e07  EXPR$0 AS most, window_end - 10s AS s, window_end AS e
                window-aggregate:orders:4e14a92c  TUMBLE 2s, MAX(n) [state: TUMBLE 2s keys() calls(MAX(BIGINT))]
                  local-window-aggregate:orders:5e5a0b12  partial TUMBLE 2s, MAX(n) => all to one
                    calc:orders:c0095d9c  window_end - 1ms AS rowtime, n
                      window-aggregate:orders:5539c8d5  HOP 10s every 2s, COUNT(*) by name [state: HOP 10s every 2s keys(STRING) calls(COUNT(*))]
                        local-window-aggregate:orders:80809167  partial HOP 10s every 2s, COUNT(*) by name => hash(name)
                          calc:orders:72ba7e44  name, ts AS rowtime
                            source:orders  source orders (datagen): name, ts, watermark ts - 5s
        "#]],
    );
}

#[test]
fn a_window_function_alone_assigns() {
    check(
        "CREATE TABLE o (id BIGINT, e TIMESTAMP(3)) WITH ('connector' = 'print');
         INSERT INTO o SELECT id, window_end FROM TABLE(TUMBLE(DATA => TABLE orders, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' MINUTE, `OFFSET` => INTERVAL '5' SECOND))
         WHERE name = 'x';",
        expect![[r#"
            sink:o  sink o (print)
              calc:orders:b8d722c5  id, window_end AS e WHERE name = 'x'
                window-assign:orders:6f723b81  TUMBLE 1min offset 5s on ts
                  calc:orders:6804a0fa  id, name, ts
                    source:orders  source orders (datagen): id, name, ts, watermark ts - 5s
        "#]],
    );
}

#[test]
fn an_aggregate_of_changes_retracts() {
    check(
        "CREATE TABLE o (n BIGINT, names BIGINT) WITH ('connector' = 'print');
         INSERT INTO o SELECT n, COUNT(*) FROM (SELECT name, COUNT(*) AS n FROM orders GROUP BY name) GROUP BY n;",
        expect![[r#"
            sink:o  sink o (print) [changes]
              calc:orders:45cf1854  n, EXPR$1 AS names [changes]
                group-aggregate:orders:b377d266  COUNT(*) by n [changes] [state: retracting keys(BIGINT) calls(COUNT(*))]
                  calc:orders:3b22f930  n [changes] => hash(n)
                    group-aggregate:orders:15cd496f  COUNT(*) by name [changes] [state: keys(STRING) calls(COUNT(*))]
                      local-group-aggregate:orders:146b5b4c  partial COUNT(*) by name => hash(name)
                        source:orders  source orders (datagen): name
        "#]],
    );
}

#[test]
fn a_table_of_changes_is_a_change_log_from_its_source_on() {
    check(
        "CREATE TABLE items (id BIGINT NOT NULL, kind STRING, price BIGINT, dear AS price > 100) WITH ('connector' = 'kafka', 'format' = 'debezium-json');
         CREATE TABLE o (kind STRING, total BIGINT) WITH ('connector' = 'print');
         CREATE TABLE p (id BIGINT) WITH ('connector' = 'print');
         INSERT INTO o SELECT kind, SUM(price) FROM items WHERE dear GROUP BY kind;
         INSERT INTO p SELECT id FROM items;",
        expect![[r#"
            sink:o  sink o (print) [changes]
              calc:items:1185f07e  kind, EXPR$1 AS total [changes]
                group-aggregate:items:0c8d5123  SUM(price) by kind [changes] [state: retracting keys(STRING) calls(SUM(BIGINT))]
                  calc:items:49f29706  kind, price WHERE dear [changes] => hash(kind)
                    source:items  source items (kafka): id, kind, price, dear AS price > 100 [changes]
            sink:p  sink p (print) [changes]
              calc:items:bb871554  id [changes]
                source:items (see above)
        "#]],
    );
}

#[test]
fn distinct_union_and_with() {
    check(
        "CREATE TABLE o (name STRING) WITH ('connector' = 'print');
         INSERT INTO o WITH rich AS (SELECT name FROM orders WHERE amount > 100) SELECT DISTINCT name FROM (
           SELECT name FROM rich UNION ALL SELECT UPPER(name) FROM orders UNION ALL SELECT 'x' FROM orders);",
        expect![[r#"
            sink:o  sink o (print) [changes]
              group-aggregate:orders:24c9d6f7  DISTINCT by name [changes] [state: keys(STRING) calls()]
                local-group-aggregate:orders:81555ce3  partial DISTINCT by name => hash(name)
                  union:orders:543d2115  union of 3
                    calc:orders:18298f63  name WHERE amount > 100.00
                      source:orders  source orders (datagen): name, amount
                    calc:orders:5ac14301  UPPER(name) AS name
                      source:orders (see above)
                    calc:orders:2c2fef0b  'x' AS name
                      source:orders (see above)
        "#]],
    );
}

#[test]
fn an_expression_of_a_view_that_is_used_twice_is_computed_once() {
    check(
        "CREATE VIEW v AS SELECT REGEXP_EXTRACT(name, '[a-z]+') AS word, id FROM orders;
         CREATE TABLE o (a STRING, b INT) WITH ('connector' = 'print');
         INSERT INTO o SELECT word, CHAR_LENGTH(word) FROM v WHERE id > 1 AND word LIKE 'a%';",
        expect![[r#"
            sink:o  sink o (print)
              calc:orders:8b545bb4  word AS a, CHAR_LENGTH(word) AS b WHERE (id > 1) AND (word LIKE 'a%')
                calc:orders:368f0f6e  REGEXP_EXTRACT(name, '[a-z]+', 0) AS word, id
                  source:orders  source orders (datagen): id, name
        "#]],
    );
}

#[test]
fn several_inserts_into_one_table_meet_in_a_union() {
    check(
        "CREATE TABLE o (id BIGINT, name STRING) WITH ('connector' = 'filesystem');
         INSERT INTO o SELECT id, name FROM orders;
         INSERT INTO o (name, id) SELECT name, 1 FROM orders;
         INSERT INTO o (id) SELECT id FROM orders WHERE name IS NULL;",
        expect![[r#"
            sink:o  sink o (filesystem)
              union:orders:543d2115  union of 3
                calc:orders:201457f8  id, name
                  source:orders  source orders (datagen): id, name
                calc:orders:b441a87d  1 AS id, name
                  source:orders (see above)
                calc:orders:26315bff  id, NULL AS name WHERE name IS NULL
                  source:orders (see above)
        "#]],
    );
}
