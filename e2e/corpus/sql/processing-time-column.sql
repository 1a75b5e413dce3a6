-- 2:29: PROCTIME is not supported; processing time is not supported yet; use an event-time column with WATERMARK FOR
CREATE TABLE u (a INT, p AS PROCTIME()) WITH ('connector' = 'datagen');

