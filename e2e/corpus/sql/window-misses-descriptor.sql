-- 4:45: the second argument of TUMBLE is the event-time column; write DESCRIPTOR(column)
CREATE TABLE t (k STRING, v INT, l BIGINT, d DOUBLE, b BOOLEAN, r ROW<a INT, c STRING>, ts TIMESTAMP(3), t6 TIMESTAMP(6), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
INSERT INTO o SELECT k, COUNT(*) FROM TABLE(TUMBLE(TABLE t, ts, INTERVAL '1' MINUTE)) GROUP BY k, window_start, window_end;
