-- 5:67: FOR SYSTEM_TIME AS OF needs a processing-time column of the left side
CREATE TABLE t (k STRING, v INT, l BIGINT, ts TIMESTAMP(3), p AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen');
CREATE TABLE r (k STRING, v INT, n BIGINT, d DECIMAL(10, 2), PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'jdbc', 'url' = 'postgres://h/d', 'table-name' = 'r');
CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
INSERT INTO o SELECT t.k, r.n FROM t JOIN r FOR SYSTEM_TIME AS OF t.l ON t.k = r.k;
