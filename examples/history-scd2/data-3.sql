-- Some go back to what they were, and the list has a line twice: the last one counts.
COPY (SELECT 'sku ' || i AS sku, 'product ' || i AS title, 'group ' || i % 8 AS group_name,
             (100 + i % 50 + if(n < 2, 7, 0))::DECIMAL(9, 2) AS price, DATE '2026-03-01' AS day
      FROM range(100, 300) t(i), range(1, 3) u(n) WHERE n = 2 OR i % 5 = 0 ORDER BY n, i)
  TO 'data/list-3.parquet' (FORMAT parquet);
