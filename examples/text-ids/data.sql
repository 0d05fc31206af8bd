-- 3,000 order lines; every hundredth order has no country.
CREATE TABLE lines AS
SELECT 'o' || (i // 3) AS order_no,
       'customer' || (i // 3 % 211) || '@example.org' AS email,
       CASE WHEN i // 3 % 100 = 7 THEN NULL ELSE ['DE', 'FR', 'IT'][1 + i // 3 % 3] END AS country,
       DATE '2024-06-01' + CAST(i // 3 AS INTEGER) AS ordered,
       'article ' || (i % 17) AS article,
       i % 5 + 1 AS quantity
FROM range(3000) t(i);
COPY lines TO 'data/part-1.parquet' (FORMAT parquet);
