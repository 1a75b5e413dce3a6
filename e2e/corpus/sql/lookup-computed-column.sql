-- 6:43: "c" is looked up, and its column "u" is computed or METADATA; compute it in the query
CREATE TABLE t (k STRING, v INT, l BIGINT, ts TIMESTAMP(3), p AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE r (k STRING, v INT, n BIGINT, d DECIMAL(10, 2), PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'jdbc', 'url' = 'postgres://h/d', 'table-name' = 'r');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
CREATE TABLE c (k STRING, u AS UPPER(k)) WITH ('connector' = 'jdbc');
INSERT INTO o SELECT t.k, t.l FROM t JOIN c FOR SYSTEM_TIME AS OF t.p ON t.k = c.u;
