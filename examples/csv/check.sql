CREATE TEMP VIEW expected AS
    SELECT email, article, quantity, price, "ordered at" AS ordered_at
    FROM read_csv(['data/2026-01.csv', 'data/2026-02.csv.gz', 'data/2026-03.csv'], header = true, delim = ';',
        columns = {'email': 'VARCHAR', 'note': 'VARCHAR', 'article': 'VARCHAR', 'quantity': 'BIGINT',
            'price': 'DECIMAL(10, 2)', 'ordered at': 'TIMESTAMP'});

CREATE TEMP VIEW found AS
    SELECT email, article, quantity, price, ordered_at
    FROM 'out/order_lines/*.parquet' JOIN 'out/customers/*.parquet' USING (customer_id)
        JOIN 'out/articles/*.parquet' USING (article_id);

SELECT 'missing', * FROM (FROM expected EXCEPT ALL FROM found);

SELECT 'too much', * FROM (FROM found EXCEPT ALL FROM expected);

-- Articles keep their zeros, quantities are numbers though nobody said so, and nothing is a note.
SELECT 'type', column_name, column_type
FROM (DESCRIBE FROM 'out/order_lines/*.parquet')
WHERE (column_name = 'quantity' AND column_type <> 'BIGINT') OR (column_name = 'price' AND column_type <> 'DECIMAL(10,2)');

SELECT 'article', * FROM 'out/articles/*.parquet' WHERE length(article) <> 5;

SELECT 'note', * FROM 'out/customers/*.parquet'
WHERE (email = 'c3@example.org' AND note <> concat('calls back', chr(59), chr(10), 'says "soon"'))
    OR (email = 'c4@example.org' AND note IS NOT NULL);

SELECT 'lines', count(*) FROM 'out/order_lines/*.parquet' HAVING count(*) <> 420 OR max(line_id) <> 420;
