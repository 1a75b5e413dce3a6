-- 5:13: the result of this query changes, but connector 'filesystem' of "f" only takes new rows; aggregate over a window, or write to a connector that takes updates (print, blackhole)
CREATE TABLE t (k STRING, v INT, l BIGINT, d DOUBLE, b BOOLEAN, r ROW<a INT, c STRING>, ts TIMESTAMP(3), t6 TIMESTAMP(6), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
CREATE TABLE f (k STRING, n BIGINT) WITH ('connector' = 'filesystem');
INSERT INTO f SELECT k, COUNT(*) FROM t GROUP BY k;
