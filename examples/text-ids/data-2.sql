-- Known orders, and new ones.
CREATE TABLE lines AS
SELECT 'o' || (900 + i // 2) AS order_no,
       'customer' || (i // 2 % 300) || '@example.org' AS email,
       ['DE', 'FR', 'IT'][1 + i // 2 % 3] AS country,
       DATE '2027-03-01' AS ordered,
       'article ' || (i % 17) AS article,
       i % 5 + 1 AS quantity
FROM range(600) t(i);
COPY lines TO 'data/part-2.parquet' (FORMAT parquet);
