COPY (SELECT 'sku ' || i AS sku, 'product ' || i AS title, 'group ' || i % 8 AS group_name,
             (100 + i % 50)::DECIMAL(9, 2) AS price, DATE '2026-01-01' AS day
      FROM range(400) t(i)) TO 'data/list-1.parquet' (FORMAT parquet);
