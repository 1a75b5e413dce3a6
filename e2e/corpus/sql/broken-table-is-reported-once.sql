-- 2:19: unknown type STRNG; did you mean "STRING"?
CREATE TABLE u (a STRNG) WITH ('connector' = 'datagen');
INSERT INTO u SELECT a FROM u;
