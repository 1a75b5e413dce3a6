-- 4:1: SET is not supported in a job's script; settings of a job are fields of the StreamJob's spec
CREATE TABLE t (k STRING, v INT, l BIGINT, d DOUBLE, b BOOLEAN, r ROW<a INT, c STRING>, ts TIMESTAMP(3), t6 TIMESTAMP(6), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
SET 'parallelism.default' = '2';
INSERT INTO o SELECT k, l FROM t;
