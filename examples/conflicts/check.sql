-- What is new in a run has the columns of its first record, or of its last one, in that run.
CREATE VIEW records AS
SELECT *, CASE WHEN filename LIKE '%part-3%' THEN 2 ELSE 1 END AS run, filename || '/' || lpad(file_row_number::VARCHAR, 9, '0') AS place
FROM read_parquet('data/*.parquet', filename = true, file_row_number = true);
WITH mine AS (
  SELECT customer_no, arg_min(ROW(email, city), place) AS said, row_number() OVER (ORDER BY min(place)) AS customer_id
  FROM records GROUP BY customer_no
)
SELECT 'customer', * FROM mine FULL JOIN 'out/customers/*.parquet' c USING (customer_id)
WHERE mine.customer_no IS DISTINCT FROM c.customer_no OR mine.said IS DISTINCT FROM ROW(c.email, c.city);
WITH new AS (SELECT sku, min(run) AS run, row_number() OVER (ORDER BY min(place)) AS product_id FROM records GROUP BY sku),
mine AS (SELECT sku, product_id, arg_max(title, place) AS title FROM records JOIN new USING (sku, run) GROUP BY ALL)
SELECT 'product', * FROM mine FULL JOIN 'out/products/*.parquet' p USING (product_id)
WHERE mine.sku IS DISTINCT FROM p.sku OR mine.title IS DISTINCT FROM p.title;
WITH mine AS (
  SELECT order_no, arg_min(customer_no, place) AS customer_no, row_number() OVER (ORDER BY min(place)) AS order_id
  FROM records GROUP BY order_no
),
found AS (SELECT * FROM 'out/orders/*.parquet' JOIN 'out/customers/*.parquet' USING (customer_id))
SELECT 'order', * FROM mine FULL JOIN found USING (order_id)
WHERE mine.order_no IS DISTINCT FROM found.order_no OR mine.customer_no IS DISTINCT FROM found.customer_no;
WITH mine AS (SELECT row_number() OVER (ORDER BY place) AS line_id, order_no, sku, quantity FROM records),
found AS (
  SELECT * FROM 'out/order_lines/*.parquet' l JOIN 'out/orders/*.parquet' USING (order_id)
  JOIN 'out/products/*.parquet' USING (product_id)
)
SELECT 'line', * FROM mine FULL JOIN found USING (line_id)
WHERE mine.order_no IS DISTINCT FROM found.order_no OR mine.sku IS DISTINCT FROM found.sku
   OR mine.quantity IS DISTINCT FROM found.quantity;
