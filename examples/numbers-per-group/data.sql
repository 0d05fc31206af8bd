CREATE TABLE lines AS
SELECT 'r' || (i * 7 % 1500) AS reference,
       CASE WHEN i * 7 % 1500 % 50 = 3 THEN NULL ELSE ['DE', 'FR', 'IT', 'AT'][1 + i * 7 % 1500 % 4] END AS country,
       DATE '2024-01-01' + CAST(i * 7 % 1500 AS INTEGER) AS invoiced,
       'article ' || (i * i % 41) AS article, i % 5 + 1 AS quantity
FROM range(4000) t(i);
COPY lines TO 'data/part-1.parquet' (FORMAT parquet);
