-- 5:48: two tables of this query are called "r"; give one an alias with AS
CREATE TABLE t (k STRING, v INT, l BIGINT, ts TIMESTAMP(3), p AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE r (k STRING, v INT, n BIGINT, d DECIMAL(10, 2), PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'jdbc', 'url' = 'postgres://h/d', 'table-name' = 'r');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
INSERT INTO o SELECT r.k, r.n FROM t AS r JOIN r FOR SYSTEM_TIME AS OF r.p ON r.k = r.k;
