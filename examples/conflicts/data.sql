CREATE MACRO lines(lo, hi) AS TABLE
SELECT 'o-' || i // 4 AS order_no,
       'c-' || (CASE WHEN i % 997 = 5 THEN i // 4 + 1 ELSE i // 4 END) % 900 AS customer_no,
       CASE WHEN i % 13 = 0 THEN NULL ELSE 'c' || (i // 4) % 900 || '@example.org' END AS email,
       CASE WHEN (i // 4) % 900 < 200 AND i % 7 = 3 THEN 'Lyon' ELSE 'Rome' END AS city,
       's-' || (i * 7) % 1500 AS sku,
       'Article ' || (i * 7) % 1500 || CASE WHEN i % 1500 < 40 THEN ', edition ' || i // 3000 ELSE '' END AS title,
       CAST(i % 5 + 1 AS INTEGER) AS quantity
FROM range(lo, hi) t(i);
COPY (FROM lines(0, 9000)) TO 'data/part-1.parquet' (FORMAT parquet);
COPY (FROM lines(9000, 12000)) TO 'data/part-2.parquet' (FORMAT parquet);
