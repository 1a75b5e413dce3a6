-- 2:47: the watermark's column "a" is TIMESTAMP(6); it must be TIMESTAMP(3) or TIMESTAMP_LTZ(3); compute such a column with TO_TIMESTAMP_LTZ or CAST
CREATE TABLE u (a TIMESTAMP(6), WATERMARK FOR a AS a) WITH ('connector' = 'datagen');

