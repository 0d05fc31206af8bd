-- Some of them have moved, one of eleven has no city any more, and some customers are new.
COPY (SELECT 'b' || i AS order_no, 'c' || (i * 11 % 800) || '@example.org' AS email, 'name ' || (i * 11 % 800) AS name,
             CASE WHEN i % 11 = 0 THEN NULL ELSE 'city ' || (i * 11 % 800 + i % 2 * 5) % 90 END AS city,
             'depot ' || ((i * 11 % 800 + i % 3) % 9) AS depot, i % 97 AS amount
      FROM range(900) t(i)) TO 'data/orders-2.parquet' (FORMAT parquet);
