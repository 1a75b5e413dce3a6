-- The inner aggregation of Nexmark's query 7: the highest bid of each tumbling window.
CREATE TABLE nexmark_q7_inner (
  maxprice  BIGINT,
  `dateTime`  TIMESTAMP(3)
) WITH (
  'connector' = 'blackhole'
);

INSERT INTO nexmark_q7_inner
  SELECT MAX(price) AS maxprice, window_end as `dateTime`
  FROM TABLE(
          TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
  GROUP BY window_start, window_end;
