-- One of three has another price, one of ten is not for sale any more (no price), one of twenty has moved to a new group.
COPY (SELECT 'sku ' || i AS sku, 'product ' || i AS title, CASE WHEN i % 20 = 3 THEN 'group new' ELSE 'group ' || i % 8 END AS group_name,
             CASE WHEN i % 10 = 0 THEN NULL ELSE 100 + i % 50 + if(i % 3 = 0, 1.5, 0) END::DECIMAL(9, 2) AS price,
             DATE '2026-02-01' AS day
      FROM range(50, 450) t(i) ORDER BY hash(i)) TO 'data/list-2.parquet' (FORMAT parquet);
