-- 500 customers with gaps between their IDs, in no order.
COPY (SELECT 'c' || i || '@example.org' AS mail, 1000 + i * i AS id FROM range(500) t(i) ORDER BY hash(i))
  TO 'data/customers.parquet' (FORMAT parquet);
COPY (SELECT 'o' || i AS order_no, 'c' || (i * 37 % 800) || '@example.org' AS email, 'name ' || (i * 37 % 800) AS name,
             i % 97 AS amount FROM range(2000) t(i)) TO 'data/orders-1.parquet' (FORMAT parquet);
