-- The bad file once more, as it should have been.
COPY (
    SELECT
        CASE WHEN n % 7 <> 0 THEN 'S' || n % 15 END AS sensor,
        CASE WHEN n % 5 <> 0 THEN 'garden' END AS site,
        TIMESTAMP '2026-03-02 00:00:00' + INTERVAL (n) MINUTE AS taken_at,
        (n % 100) / 4 AS value
    FROM range(100) AS r(n)
    ORDER BY n
) TO 'data/bad.parquet';
