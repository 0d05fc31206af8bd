-- A day more, with a country more.
COPY (
    SELECT
        'c' || (n * 7919 % 450) || '@example.com' AS email,
        ['DE', 'PT'][n % 2 + 1] AS country,
        DATE '2025-01-10' AS day,
        (n * 17 % 5000)::DECIMAL(9, 2) / 100 AS amount
    FROM range(600) t(n)
) TO 'data/sales-2.parquet' (FORMAT parquet);
