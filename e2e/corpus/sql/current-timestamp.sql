-- 4:27: CURRENT_TIMESTAMP is not supported; processing time is not supported yet; use an event-time column with WATERMARK FOR
CREATE TABLE t (k STRING, v INT, l BIGINT, d DOUBLE, b BOOLEAN, r ROW<a INT, c STRING>, ts TIMESTAMP(3), t6 TIMESTAMP(6), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
INSERT INTO o SELECT CAST(CURRENT_TIMESTAMP AS STRING), l FROM t;
