-- 400 bookings of 60 passengers, whose names change; each comes twice.
COPY (
    SELECT
        'SE' || n % 8 AS flight_no,
        DATE '2026-05-01' + (n % 3)::INTEGER AS day,
        'Gate ' || n % 8 AS gate,
        n // 8 || 'A' AS seat,
        'P' || n * 11 % 60 AS passport,
        'Name ' || n * 11 % 60 || CASE WHEN n > 350 THEN ' (married)' ELSE '' END AS name
    FROM range(400) AS r(n), range(2)
    ORDER BY n
) TO 'data/may-1.parquet';
