-- 2:1: expected CREATE TABLE, CREATE VIEW or INSERT INTO, found hello
hello world
