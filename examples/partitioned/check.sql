-- Every sale is there, with what its folders say.
CREATE VIEW found AS
SELECT * FROM read_parquet('out/sales/*/*/*.parquet', hive_partitioning = true, hive_types = {country: VARCHAR, day: DATE});

(SELECT 'missing', country, day, amount, count(*) FROM 'data/*.parquet' GROUP BY ALL
 EXCEPT SELECT 'missing', country, day, amount, count(*) FROM found GROUP BY ALL)
UNION ALL
(SELECT 'too many', country, day, amount, count(*) FROM found GROUP BY ALL
 EXCEPT SELECT 'too many', country, day, amount, count(*) FROM 'data/*.parquet' GROUP BY ALL);

-- The IDs are dense over all partitions, and the first run's are those of its records in their order.
SELECT 'ids', count(*) FROM found
HAVING count(DISTINCT sale_id) <> 5600 OR min(sale_id) <> 1 OR max(sale_id) <> 5600;

SELECT 'order', sale_id FROM found JOIN read_parquet('data/sales.parquet', file_row_number = true) s
ON found.sale_id = s.file_row_number + 1
WHERE (found.country, found.day, found.amount) IS DISTINCT FROM (s.country, s.day, s.amount);

-- Within a partition rows are in the order of their IDs.
SELECT 'row', sale_id FROM (
    SELECT sale_id, lag(sale_id) OVER (PARTITION BY country, day ORDER BY filename, file_row_number) AS before
    FROM read_parquet('out/sales/*/*/*.parquet', hive_partitioning = true, filename = true, file_row_number = true)
) WHERE sale_id < before;

-- Each of the two runs has one file of a partition at most, and the columns of folders are in no file.
SELECT 'files', country, day, count(*) FROM (
    SELECT DISTINCT country, day, filename
    FROM read_parquet('out/sales/*/*/*.parquet', hive_partitioning = true, filename = true)
) GROUP BY ALL HAVING count(*) > 2;

SELECT 'column', name FROM parquet_schema('out/sales/*/*/*.parquet') WHERE name IN ('country', 'day');

-- Each customer once, and numbered without a gap; a sale has the one of its record.
SELECT 'customer', email FROM (SELECT DISTINCT email FROM 'data/*.parquet')
FULL JOIN 'out/customers/*.parquet' c USING (email) WHERE c.customer_id IS NULL;

SELECT 'customer_id', count(*) FROM 'out/customers/*.parquet'
HAVING count(DISTINCT customer_id) <> count(DISTINCT email) OR max(customer_id) <> count(*);

SELECT 'reference', sale_id FROM found JOIN read_parquet('data/sales.parquet', file_row_number = true) s
ON found.sale_id = s.file_row_number + 1 LEFT JOIN 'out/customers/*.parquet' c USING (customer_id)
WHERE c.email IS DISTINCT FROM s.email;
