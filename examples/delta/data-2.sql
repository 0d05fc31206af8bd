-- The orders of February: 1,000 more, of 350 customers; some of the orders of January come again.
COPY (
    SELECT
        n AS order_no,
        'c' || (n * 7919 % 350) || '@example.com' AS email,
        ['DE', 'FR', 'IT'][n * 7919 % 350 % 3 + 1] AS country,
        TIMESTAMP '2025-01-01 00:00:00' + to_minutes(n) AS ordered_at,
        (n * 31 % 10000)::DECIMAL(9, 2) / 100 AS total
    FROM range(1900, 3000) t(n)
) TO 'data/2025-02.parquet' (FORMAT parquet);
