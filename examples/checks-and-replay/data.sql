-- Every twentieth payment has a currency that is none, every thirtieth an amount below zero.
COPY (
    SELECT
        'P' || n AS payment,
        'C' || n * 7 % 90 AS card,
        (CASE WHEN n % 30 = 13 THEN -1 ELSE 1 END * (n * 37 % 6000 + 1) / 1.0)::DECIMAL(10, 2) AS amount,
        CASE WHEN n % 20 = 3 THEN '???' ELSE ['EUR', 'USD', 'SEK'][1 + n % 3] END AS currency
    FROM range(600) AS r(n)
    ORDER BY n
) TO 'data/2026-05.parquet';
