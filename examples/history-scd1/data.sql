COPY (SELECT 'a' || i AS order_no, 'c' || (i * 37 % 600) || '@example.org' AS email, 'name ' || (i * 37 % 600) AS name,
             'city ' || (i * 37 % 600 % 90) AS city, 'depot ' || (i * 37 % 600 % 7) AS depot, i % 97 AS amount
      FROM range(1500) t(i)) TO 'data/orders-1.parquet' (FORMAT parquet);
