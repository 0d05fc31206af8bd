CREATE MACRO items_of(i) AS
  CASE WHEN i % 17 = 0 THEN NULL ELSE list_transform(range(i % 6), lambda j: {
    'sku': CASE WHEN (i + j) % 23 = 0 THEN NULL ELSE 'sku-' || (i * 7 + j * 13) % 400 END,
    'title': 'Article ' || (i * 7 + j * 13) % 400,
    'quantity': j + 1,
    'price': CAST((i * 31 + j) % 9000 / 100 AS DECIMAL(8, 2))
  }) END;
CREATE TABLE orders AS
SELECT 'A-' || i AS order_no, DATE '2025-01-01' + CAST(i % 90 AS INTEGER) AS order_date, items_of(i) AS items,
       CASE i % 4 WHEN 0 THEN ['gift', 'express'] WHEN 1 THEN ['region ' || i % 11] WHEN 2 THEN [] ELSE NULL END AS tags
FROM range(3000) t(i);
COPY (FROM orders WHERE order_no NOT LIKE 'A-1%') TO 'data/part-1.parquet' (FORMAT parquet);
COPY (FROM orders WHERE order_no LIKE 'A-1%') TO 'data/part-2.parquet' (FORMAT parquet);
