-- The orders of January: 2,000 orders of 300 customers, each customer in one country.
COPY (
    SELECT
        n AS order_no,
        'c' || (n * 7919 % 300) || '@example.com' AS email,
        ['DE', 'FR', 'IT'][n * 7919 % 300 % 3 + 1] AS country,
        TIMESTAMP '2025-01-01 00:00:00' + to_minutes(n) AS ordered_at,
        (n * 31 % 10000)::DECIMAL(9, 2) / 100 AS total
    FROM range(2000) t(n)
) TO 'data/2025-01.parquet' (FORMAT parquet);
