-- 2:55: a table has one WATERMARK
CREATE TABLE u (a TIMESTAMP(3), WATERMARK FOR a AS a, WATERMARK FOR a AS a) WITH ('connector' = 'datagen');

