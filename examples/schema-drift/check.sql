-- Every record is a line, with its own values, whatever its file calls them.
CREATE TEMP VIEW expected AS
    SELECT order_no, cust_mail AS email, quantity::BIGINT AS quantity, NULL::DECIMAL(5, 2) AS discount
    FROM read_parquet(['data/2026-01.parquet', 'data/2026-04.parquet'])
    UNION ALL SELECT order_no, email, quantity, NULL FROM 'data/2026-02.parquet'
    UNION ALL SELECT order_no, email, quantity, discount FROM 'data/2026-03.parquet';

CREATE TEMP VIEW found AS
    SELECT order_no, email, quantity, discount
    FROM 'out/order_lines/*.parquet' JOIN 'out/customers/*.parquet' USING (customer_id);

SELECT 'missing', * FROM (FROM expected EXCEPT ALL FROM found);

SELECT 'too much', * FROM (FROM found EXCEPT ALL FROM expected);

-- One type in all files, in the output as in the first run.
SELECT 'type', column_name, column_type
FROM (DESCRIBE FROM 'out/order_lines/*.parquet')
WHERE (column_name = 'quantity' AND column_type <> 'BIGINT')
    OR (column_name = 'discount' AND column_type <> 'DECIMAL(5,2)');

-- IDs without a gap.
SELECT 'gap', count(*), min(line_id), max(line_id) FROM 'out/order_lines/*.parquet'
HAVING count(*) <> 400 OR min(line_id) <> 1 OR max(line_id) <> 400 OR count(DISTINCT line_id) <> 400;
