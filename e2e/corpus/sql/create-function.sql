-- 4:1: CREATE FUNCTION is not supported in a job's script; user-defined functions are not supported; use the built-in ones
CREATE TABLE t (k STRING, v INT, l BIGINT, d DOUBLE, b BOOLEAN, r ROW<a INT, c STRING>, ts TIMESTAMP(3), t6 TIMESTAMP(6), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
CREATE FUNCTION f AS 'com.example.F';
INSERT INTO o SELECT k, l FROM t;
