-- 5,000 sales in four countries, one of which is not known, and one of which needs its name encoded.
COPY (
    SELECT
        'c' || (n * 7919 % 400) || '@example.com' AS email,
        ['DE', 'FR', 'Côte d''Ivoire', NULL][n * 31 % 4 + 1] AS country,
        DATE '2025-01-01' + (n // 500)::INTEGER AS day,
        (n * 17 % 5000)::DECIMAL(9, 2) / 100 AS amount
    FROM range(5000) t(n)
) TO 'data/sales.parquet' (FORMAT parquet);
