-- 4:1: OR REPLACE is not supported in a job's script; every table and view is declared once
CREATE TABLE t (k STRING, v INT, l BIGINT, d DOUBLE, b BOOLEAN, r ROW<a INT, c STRING>, ts TIMESTAMP(3), t6 TIMESTAMP(6), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
CREATE OR REPLACE VIEW w AS SELECT k FROM t;
INSERT INTO o SELECT k, l FROM t;
