-- 5:13: column "a" of "u" is NOT NULL and gets no value
CREATE TABLE t (k STRING, v INT, l BIGINT, d DOUBLE, b BOOLEAN, r ROW<a INT, c STRING>, ts TIMESTAMP(3), t6 TIMESTAMP(6), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
CREATE TABLE u (a BIGINT NOT NULL, b STRING) WITH ('connector' = 'print');
INSERT INTO u (b) SELECT k FROM t;
