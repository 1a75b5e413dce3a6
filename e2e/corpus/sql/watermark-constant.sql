-- 2:62: the watermark does not follow the rows; write a - INTERVAL '5' SECOND
CREATE TABLE u (a TIMESTAMP(3), WATERMARK FOR a AS TIMESTAMP '2020-01-01 00:00:00') WITH ('connector' = 'datagen');

