-- A later day, flights 0 to 9, passengers 40 to 79.
COPY (
    SELECT
        'SE' || n % 10 AS flight_no,
        DATE '2026-05-03' + (n % 2)::INTEGER AS day,
        'Gate ' || n % 10 AS gate,
        n // 10 || 'B' AS seat,
        'P' || 40 + n * 7 % 40 AS passport,
        'Name ' || 40 + n * 7 % 40 AS name
    FROM range(200) AS r(n)
    ORDER BY n
) TO 'data/may-2.parquet';
