COPY (SELECT 'p' || i AS order_no, 'c' || (i * 11 % 900) || '@example.org' AS email, 'name ' || (i * 11 % 900) AS name,
             i % 97 AS amount FROM range(2000) t(i)) TO 'data/orders-2.parquet' (FORMAT parquet);
