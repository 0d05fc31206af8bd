-- Every seventh record lacks its sensor, every fifth its site.
COPY (
    SELECT
        CASE WHEN n % 7 <> 0 THEN 'S' || n % 12 END AS sensor,
        CASE WHEN n % 5 <> 0 THEN ['roof', 'cellar', 'hall'][1 + n % 12 % 3] END AS site,
        TIMESTAMP '2026-03-01 00:00:00' + INTERVAL (n) MINUTE AS taken_at,
        (n % 100) / 4 AS value
    FROM range(400) AS r(n)
    ORDER BY n
) TO 'data/2026-03-01.parquet';

-- A file that is no Parquet, whatever its name says.
COPY (SELECT 'sensor;site;taken_at;value') TO 'data/bad.parquet' (FORMAT csv, HEADER false);
