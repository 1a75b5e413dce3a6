-- 5:19: keys of a MAP are STRING, not INT
-- 6:25: the key of a map is not a constant text
CREATE TABLE t (k STRING, m MAP<STRING, INT>) WITH ('connector' = 'datagen');
CREATE TABLE o (k STRING, n INT) WITH ('connector' = 'print');
CREATE TABLE u (a MAP<INT, STRING>) WITH ('connector' = 'print');
INSERT INTO o SELECT k, m[k] FROM t;
