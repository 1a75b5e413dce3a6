-- 5:22: unknown column "nope"; there is k, v, l, d, b, r, ts, t6
-- 6:32: unknown table "nowhere"; declare it above with CREATE TABLE or CREATE VIEW
CREATE TABLE t (k STRING, v INT, l BIGINT, d DOUBLE, b BOOLEAN, r ROW<a INT, c STRING>, ts TIMESTAMP(3), t6 TIMESTAMP(6), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
INSERT INTO o SELECT nope, l FROM t;
INSERT INTO o SELECT k, l FROM nowhere;
