-- Bids of each bidder in tumbling windows.
CREATE TABLE bids_per_bidder (
  bidder  BIGINT,
  bids  BIGINT,
  starttime  TIMESTAMP(3),
  endtime  TIMESTAMP(3)
) WITH (
  'connector' = 'blackhole'
);

INSERT INTO bids_per_bidder
  SELECT bidder, COUNT(*), window_start, window_end
  FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
  GROUP BY bidder, window_start, window_end;
