-- 2:14: table "u" has no physical columns
CREATE TABLE u (c AS 1 + 1) WITH ('connector' = 'datagen');

