-- 5:123: a lookup join of rows that change is not supported; a row that is taken back
CREATE TABLE t (k STRING, v INT, l BIGINT, ts TIMESTAMP(3), p AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE r (k STRING, v INT, n BIGINT, d DECIMAL(10, 2), PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'jdbc', 'url' = 'postgres://h/d', 'table-name' = 'r');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
INSERT INTO o SELECT g.k, r.n FROM (SELECT k, PROCTIME() AS p FROM (SELECT k, COUNT(*) AS n FROM t GROUP BY k)) AS g JOIN r FOR SYSTEM_TIME AS OF g.p ON g.k = r.k;
