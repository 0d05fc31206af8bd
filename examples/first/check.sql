-- The records that the transform lets through, in the order of files and rows.
CREATE VIEW records AS
SELECT *, row_number() OVER (ORDER BY filename, file_row_number) AS n
FROM read_parquet('data/part-*.parquet', filename = true, file_row_number = true)
WHERE quantity > 0;

-- A thing's number is its rank among the first appearances; its attributes are those of its first record.
CREATE VIEW expected_customers AS
SELECT
    row_number() OVER (ORDER BY min(n)) AS customer_id,
    email,
    first(name ORDER BY n) AS name,
    upper(first(country ORDER BY n)) AS country_code
FROM records GROUP BY email;

CREATE VIEW expected_orders AS
SELECT
    row_number() OVER (ORDER BY min(n)) AS order_id,
    order_no,
    (SELECT customer_id FROM expected_customers WHERE email = first(records.email ORDER BY n)) AS customer_id,
    first(order_date ORDER BY n) AS order_date
FROM records GROUP BY order_no;

CREATE VIEW expected_order_lines AS
SELECT n AS line_id, order_id, quantity, price FROM records JOIN expected_orders USING (order_no);

-- Exactly these rows, no more and no fewer.
(FROM expected_customers EXCEPT ALL FROM 'out/customers/*.parquet')
UNION ALL (FROM 'out/customers/*.parquet' EXCEPT ALL FROM expected_customers);

(FROM expected_orders EXCEPT ALL FROM 'out/orders/*.parquet')
UNION ALL (FROM 'out/orders/*.parquet' EXCEPT ALL FROM expected_orders);

(FROM expected_order_lines EXCEPT ALL FROM 'out/order_lines/*.parquet')
UNION ALL (FROM 'out/order_lines/*.parquet' EXCEPT ALL FROM expected_order_lines);

-- The second run met known customers, and their names stayed.
SELECT 'no known customer came again' WHERE NOT EXISTS (
    FROM records AS old JOIN records AS new USING (email)
    WHERE old.filename LIKE '%2026-01%' AND new.filename LIKE '%2026-02%' AND old.name <> new.name);
