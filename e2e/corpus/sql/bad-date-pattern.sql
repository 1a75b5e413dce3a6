-- 4:22: the date pattern letter 'Q' is not supported; the letters are y M d H h m s S E a, and text goes between quotes
CREATE TABLE t (k STRING, v INT, l BIGINT, d DOUBLE, b BOOLEAN, r ROW<a INT, c STRING>, ts TIMESTAMP(3), t6 TIMESTAMP(6), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
INSERT INTO o SELECT DATE_FORMAT(ts, 'yyyy-QQ'), l FROM t;
