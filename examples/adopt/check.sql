-- Nobody who was there has a row here, or another ID.
SELECT 'row', * FROM 'out/customers/*.parquet' WHERE email IN (SELECT mail FROM 'data/customers.parquet');
CREATE TEMP VIEW customers AS
  SELECT email, customer_id FROM 'out/customers/*.parquet' UNION ALL SELECT mail, id FROM 'data/customers.parquet';
SELECT 'twice', customer_id FROM customers GROUP BY customer_id HAVING count(*) > 1;
SELECT 'dense', count(*), min(customer_id), max(customer_id) FROM 'out/customers/*.parquet'
HAVING count(*) <> 400 OR min(customer_id) <> (SELECT max(id) + 1 FROM 'data/customers.parquet')
    OR max(customer_id) - min(customer_id) + 1 <> count(*);
-- Each order refers to the ID of its record's customer.
SELECT 'reference', *
FROM read_parquet('data/orders-*.parquet') r JOIN 'out/orders/*.parquet' o USING (order_no) JOIN customers c ON c.email = r.email
WHERE o.customer_id IS DISTINCT FROM c.customer_id;
SELECT 'orders', count(*) FROM 'out/orders/*.parquet' WHERE customer_id IS NOT NULL HAVING count(*) <> 4000;
