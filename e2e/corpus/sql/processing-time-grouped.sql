-- 5:15: cannot group by a value of type PROCTIME()
CREATE TABLE t (k STRING, v INT, l BIGINT, ts TIMESTAMP(3), p AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE r (k STRING, v INT, n BIGINT, d DECIMAL(10, 2), PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'jdbc', 'url' = 'postgres://h/d', 'table-name' = 'r');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
INSERT INTO o SELECT k, COUNT(*) FROM t GROUP BY k, p;
