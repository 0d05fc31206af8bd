-- What the last record of each customer says, and when each customer came first.
CREATE TEMP TABLE records AS
  SELECT * EXCLUDE filename, row_number() OVER (ORDER BY filename, file_row_number) AS n
  FROM read_parquet('data/orders-*.parquet', filename = true, file_row_number = true);
CREATE TEMP TABLE expected AS
  SELECT email, row_number() OVER (ORDER BY min(n)) AS customer_id, arg_max(name, n) AS name, max_by(struct_pack(c := city), n).c AS city,
         arg_max(depot, n) AS depot
  FROM records GROUP BY email;
CREATE TEMP VIEW found AS
  SELECT c.email, c.customer_id, c.name, c.city, d.depot
  FROM 'out/customers/*.parquet' c LEFT JOIN 'out/depots/*.parquet' d USING (depot_id);
SELECT 'not as the last record says', * FROM (FROM expected EXCEPT FROM found);
SELECT 'what no record says', * FROM (FROM found EXCEPT FROM expected);
SELECT 'twice', customer_id FROM found GROUP BY customer_id HAVING count(*) > 1;
-- Rows are in the order of IDs, also in files that were written anew.
SELECT 'order', * FROM (
  SELECT customer_id, row_number() OVER (ORDER BY filename, file_row_number) AS n
  FROM read_parquet('out/customers/*.parquet', filename = true, file_row_number = true)) WHERE customer_id <> n;
SELECT 'depots', count(*) FROM 'out/depots/*.parquet' HAVING count(*) <> (SELECT count(DISTINCT depot) FROM records);
SELECT 'order of', * FROM records r LEFT JOIN (SELECT order_no, email FROM 'out/orders/*.parquet' JOIN found USING (customer_id)) o
  USING (order_no) WHERE o.email IS DISTINCT FROM r.email;
-- Somebody has moved, or the example shows nothing.
SELECT 'nobody has moved' WHERE (SELECT count(*) FROM (
  SELECT email FROM records GROUP BY email HAVING count(DISTINCT city) > 1)) < 50;
