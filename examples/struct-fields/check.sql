CREATE VIEW records AS
SELECT
    row_number() OVER (ORDER BY filename, file_row_number) AS place,
    order_no,
    customer.email AS email,
    customer.name AS name,
    customer.address.city AS city,
    total
FROM read_parquet('data/*.parquet', filename = true, file_row_number = true, union_by_name = true);

CREATE VIEW expected_customers AS
SELECT customer_id, city || '-' || printf('%03d', customer_id) AS customer_id_text, email, name, city
FROM (
    SELECT
        row_number() OVER (ORDER BY min(place)) AS customer_id,
        email,
        first(name ORDER BY place) AS name,
        first(city ORDER BY place) AS city
    FROM records WHERE email IS NOT NULL GROUP BY email
);

CREATE VIEW expected_orders AS
SELECT
    row_number() OVER (ORDER BY place) AS order_id,
    order_no,
    customer_id,
    total,
    coalesce(records.city, '__HIVE_DEFAULT_PARTITION__') AS city
FROM records LEFT JOIN expected_customers USING (email);

CREATE VIEW found_orders AS
SELECT order_id, order_no, customer_id, total, coalesce(city, '__HIVE_DEFAULT_PARTITION__') AS city
FROM read_parquet('out/orders/*/*.parquet', hive_partitioning = true);

(FROM expected_customers EXCEPT ALL FROM 'out/customers/*.parquet')
UNION ALL (FROM 'out/customers/*.parquet' EXCEPT ALL FROM expected_customers);

(FROM expected_orders EXCEPT ALL FROM found_orders)
UNION ALL (FROM found_orders EXCEPT ALL FROM expected_orders);

-- There are orders without a customer.
SELECT 'each order has a customer' WHERE NOT EXISTS (FROM found_orders WHERE customer_id IS NULL);
