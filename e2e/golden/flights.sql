-- What the flights example computes, for SQLite. The table `flights` holds the file's rows, NA as NULL.
-- hours is time_hour in hours since 1970.

-- departures
SELECT carrier,
       strftime('%Y-%m-%d %H:00:00', hours * 3600, 'unixepoch') AS window_start,
       COUNT(*) AS flights,
       SUM(dep_time IS NULL) AS cancelled,
       AVG(CAST(dep_delay AS REAL)) AS mean_delay
FROM flights
GROUP BY carrier, hours;

-- delays_by_origin
WITH RECURSIVE back(h) AS (SELECT 0 UNION ALL SELECT h + 1 FROM back WHERE h < 5)
SELECT origin,
       strftime('%Y-%m-%d %H:00:00', (hours - h) * 3600, 'unixepoch') AS window_start,
       strftime('%Y-%m-%d %H:00:00', (hours - h + 6) * 3600, 'unixepoch') AS window_end,
       SUM(dep_delay IS NOT NULL AND dep_delay > 15) AS delayed,
       MAX(dep_delay) AS worst,
       AVG(CAST(dep_delay AS REAL)) AS mean_delay
FROM flights, back
GROUP BY origin, hours - h;
