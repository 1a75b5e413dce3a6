-- 4:13: the result of this query changes, but connector 'filesystem' of "f" only takes new rows; aggregate over a window, or write to a connector that takes updates (print, blackhole)
CREATE TABLE t (a INT) WITH ('connector' = 'kafka', 'format' = 'debezium-json');
CREATE TABLE f (a INT) WITH ('connector' = 'filesystem', 'format' = 'json');
INSERT INTO f SELECT a FROM t WHERE a > 1;
