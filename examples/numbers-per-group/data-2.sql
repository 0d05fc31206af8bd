CREATE TABLE lines AS
SELECT 'r' || (1000 + i) AS reference, ['DE', 'FR', 'PT'][1 + i % 3] AS country, DATE '2025-06-30' AS invoiced,
       'article ' || (i % 60) AS article, i % 5 + 1 AS quantity
FROM range(1000) t(i);
COPY lines TO 'data/part-2.parquet' (FORMAT parquet);
