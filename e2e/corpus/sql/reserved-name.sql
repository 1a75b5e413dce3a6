-- 3:27: the name __kind is taken; choose another name: it is that of the column which says how a row changes a table
CREATE TABLE t (k STRING) WITH ('connector' = 'datagen');
CREATE TABLE o (k STRING, __kind TINYINT) WITH ('connector' = 'print');
INSERT INTO o SELECT k, CAST(1 AS TINYINT) FROM t;
