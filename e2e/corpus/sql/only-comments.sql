-- 1:1: the script has no INSERT INTO, so there is nothing to run; write INSERT INTO a table, for example with 'connector' = 'print'
/* nothing to do */
