-- 2:47: unknown column "z"; there is a
CREATE TABLE u (a TIMESTAMP(3), WATERMARK FOR z AS z) WITH ('connector' = 'datagen');

