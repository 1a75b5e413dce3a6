-- 5:72: column "ts" has no watermark; declare WATERMARK FOR in its table, and select the column unchanged
CREATE TABLE t (k STRING, v INT, l BIGINT, d DOUBLE, b BOOLEAN, r ROW<a INT, c STRING>, ts TIMESTAMP(3), t6 TIMESTAMP(6), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
CREATE VIEW w AS SELECT MAX(ts) AS ts, k FROM t GROUP BY k;
INSERT INTO o SELECT k, COUNT(*) FROM TABLE(TUMBLE(TABLE w, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY k, window_start, window_end;
