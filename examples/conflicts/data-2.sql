-- Orders that go on, customers who are known, some with another city; and products that are new.
COPY (
  SELECT 'o-' || (i // 2 + 2900) AS order_no, 'c-' || (i // 2 + 2900 + i % 40 // 39) % 1000 AS customer_no,
         'c' || (i // 2 + 2900) % 1000 || '@example.org' AS email, CASE WHEN i % 50 = 0 THEN 'Oslo' ELSE 'Rome' END AS city,
         's-' || (i * 11) % 2000 AS sku, 'Article ' || (i * 11) % 2000 AS title, CAST(1 AS INTEGER) AS quantity
  FROM range(4000) t(i)
) TO 'data/part-3.parquet' (FORMAT parquet);
