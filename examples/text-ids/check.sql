-- Each code is made of its row.
SELECT 'order', * FROM 'out/orders/*.parquet'
WHERE order_code IS DISTINCT FROM concat(country, '-', year, '-', lpad(order_id::VARCHAR, 6, '0'));
SELECT 'customer', * FROM 'out/customers/*.parquet'
WHERE customer_code IS DISTINCT FROM 'C' || lpad(customer_id::VARCHAR, 4, '0');
SELECT 'line', * FROM 'out/lines/*.parquet' WHERE line_id_text IS DISTINCT FROM 'L' || line_id;
-- No code is there twice.
SELECT order_code, count(*) FROM 'out/orders/*.parquet' GROUP BY 1 HAVING count(*) > 1;
-- The country and the year are those of the order's first line.
WITH first AS (
  SELECT order_no, country, year(ordered) AS year FROM read_parquet('data/*.parquet', filename = true, file_row_number = true)
  QUALIFY row_number() OVER (PARTITION BY order_no ORDER BY filename, file_row_number) = 1
)
SELECT 'first line', * FROM first JOIN 'out/orders/*.parquet' o USING (order_no)
WHERE o.order_code NOT LIKE concat(first.country, '-', first.year, '-%');
-- All of it is there, and the text stands right after the number.
SELECT 'orders', count(*) FROM 'out/orders/*.parquet' HAVING count(*) <> 1200;
SELECT 'customers', count(*) FROM 'out/customers/*.parquet' HAVING count(*) <> 300;
SELECT 'lines', count(*) FROM 'out/lines/*.parquet' HAVING count(*) <> 3600;
SELECT column_name FROM (SELECT column_name, row_number() OVER () AS n FROM (DESCRIBE FROM 'out/orders/*.parquet'))
WHERE n = 2 AND column_name <> 'order_code';
