-- Each order once, with the values of its first record, and numbered without a gap.
WITH first AS (
    SELECT order_no, ordered_at, total FROM 'data/*.parquet'
    QUALIFY row_number() OVER (PARTITION BY order_no ORDER BY filename, file_row_number) = 1
)
SELECT 'order', order_no FROM first FULL JOIN 'out/orders/*.parquet' o USING (order_no)
WHERE o.order_id IS NULL OR o.ordered_at IS DISTINCT FROM first.ordered_at OR o.total IS DISTINCT FROM first.total;

SELECT 'order_id', count(*) FROM 'out/orders/*.parquet'
HAVING count(DISTINCT order_id) <> 3000 OR min(order_id) <> 1 OR max(order_id) <> 3000;

-- Each order refers to the customer that its first record names.
SELECT 'customer', o.order_no FROM 'out/orders/*.parquet' o JOIN 'out/customers/*.parquet' c USING (customer_id)
WHERE c.email <> 'c' || (o.order_no * 7919 % (CASE WHEN o.order_no < 2000 THEN 300 ELSE 350 END)) || '@example.com';

-- The logs name the files that are there, with their rows.
WITH named AS (
    SELECT 'out/orders/' || (add->>'path') AS file, ((add->>'stats')::JSON->>'numRecords')::BIGINT AS n
    FROM read_json('out/orders/_delta_log/*.json', columns = {add: 'JSON'}, format = 'newline_delimited')
    WHERE add IS NOT NULL
), there AS (SELECT filename AS file, count(*) AS n FROM read_parquet('out/orders/*.parquet', filename = true) GROUP BY 1)
SELECT 'file', file FROM named FULL JOIN there USING (file) WHERE named.n IS DISTINCT FROM there.n;

-- Both runs are a version of both tables.
SELECT 'version', t, list(v) FROM (
    SELECT 'customers' AS t, txn->>'version' AS v
    FROM read_json('out/customers/_delta_log/*.json', columns = {txn: 'JSON'}, format = 'newline_delimited')
    UNION ALL
    SELECT 'orders', txn->>'version'
    FROM read_json('out/orders/_delta_log/*.json', columns = {txn: 'JSON'}, format = 'newline_delimited')
) WHERE v IS NOT NULL GROUP BY t HAVING list_sort(list(v)) <> ['1', '2'];

-- Each customer once, with the country of the first record.
SELECT 'customer', email FROM (SELECT DISTINCT email, country FROM 'data/2025-01.parquet') s
FULL JOIN (FROM 'out/customers/*.parquet' WHERE customer_id <= 300) c USING (email)
WHERE c.country IS DISTINCT FROM s.country;

SELECT 'customer_id', count(*) FROM 'out/customers/*.parquet'
HAVING count(DISTINCT email) <> 350 OR count(*) <> 350 OR min(customer_id) <> 1 OR max(customer_id) <> 350;
