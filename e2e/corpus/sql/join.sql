-- 4:43: JOIN is not supported without FOR SYSTEM_TIME AS OF; there are lookup joins
CREATE TABLE t (k STRING, v INT, l BIGINT, d DOUBLE, b BOOLEAN, r ROW<a INT, c STRING>, ts TIMESTAMP(3), t6 TIMESTAMP(6), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
INSERT INTO o SELECT t.k, t.l FROM t JOIN t AS u ON t.k = u.k;
