-- Each run as it saw the countries: the first orders with those of then.
CREATE VIEW countries AS
FROM (VALUES
    ('A', 'DE', 'Germany', 'Europe'),
    ('A', 'FR', 'France', 'Europe'),
    ('A', 'US', 'United States', 'America'),
    ('B', 'DE', 'Deutschland', 'Europa'),
    ('B', 'FR', 'France', 'Europe'),
    ('B', 'US', 'United States', 'America'),
    ('B', 'CA', 'Canada', 'America')
) AS c(run, code, name, region);

CREATE VIEW records AS
SELECT
    row_number() OVER (ORDER BY o.filename, o.file_row_number) AS place,
    order_no,
    region,
    coalesce(name, 'unknown') AS country_name,
    product,
    price * pieces AS amount
FROM read_parquet('data/orders-*.parquet', filename = true, file_row_number = true) AS o
JOIN 'data/products.parquet' AS p ON p.maker = o.maker AND p.number = o.product_no
LEFT JOIN countries AS c ON c.code = upper(o.country) AND c.run = o.order_no[1];

CREATE VIEW expected_regions AS
SELECT row_number() OVER (ORDER BY min(place)) AS region_id, region
FROM records WHERE region IS NOT NULL GROUP BY region;

CREATE VIEW expected_orders AS
SELECT row_number() OVER (ORDER BY place) AS order_id, order_no, region_id, country_name, product, amount
FROM records LEFT JOIN expected_regions USING (region);

(FROM expected_regions EXCEPT ALL FROM 'out/regions/*.parquet')
UNION ALL (FROM 'out/regions/*.parquet' EXCEPT ALL FROM expected_regions);

(FROM expected_orders EXCEPT ALL FROM 'out/orders/*.parquet')
UNION ALL (FROM 'out/orders/*.parquet' EXCEPT ALL FROM expected_orders);

-- There are orders of unknown countries, and those without a product are not there.
SELECT 'each country is known' WHERE NOT EXISTS (FROM 'out/orders/*.parquet' WHERE country_name = 'unknown');

SELECT 'an order has no product' WHERE EXISTS (FROM 'out/orders/*.parquet' WHERE product IS NULL);
