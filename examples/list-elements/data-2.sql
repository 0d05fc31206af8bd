COPY (
  SELECT 'B-' || i AS order_no, DATE '2025-06-30' AS order_date,
         [{'sku': 'sku-' || i % 500, 'title': 'Article ' || i % 500, 'quantity': 1::BIGINT, 'price': 9.99::DECIMAL(8, 2)},
          {'sku': 'sku-' || i, 'title': 'Article ' || i, 'quantity': 2::BIGINT, 'price': 1.00::DECIMAL(8, 2)}] AS items,
         ['express', 'summer'] AS tags
  FROM range(1000) t(i)
) TO 'data/part-3.parquet' (FORMAT parquet);
