-- 3:37: expected literal string, found 5
CREATE TABLE t (k STRING, v INT, l BIGINT, d DOUBLE, b BOOLEAN, r ROW<a INT, c STRING>, ts TIMESTAMP(3), t6 TIMESTAMP(6), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE u (a INT METADATA FROM 5, b BIGINT) WITH ('connector' = 'print');
INSERT INTO u SELECT v, l FROM t;
