-- 2:29: unknown column "z"; there is a
CREATE TABLE u (a INT, c AS z + 1) WITH ('connector' = 'datagen');

