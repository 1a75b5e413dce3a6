-- 4:36: FOR SYSTEM_TIME AS OF is only supported behind JOIN; there are lookup joins
CREATE TABLE t (k STRING, v INT, l BIGINT, d DOUBLE, b BOOLEAN, r ROW<a INT, c STRING>, ts TIMESTAMP(3), t6 TIMESTAMP(6), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
INSERT INTO o SELECT t.k, t.l FROM t FOR SYSTEM_TIME AS OF t.ts;
