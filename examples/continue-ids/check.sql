-- New customers come right after the largest ID of what existed at first, without a gap.
SELECT 'begin', c.first, e.last
FROM (SELECT min(customer_id) AS first FROM 'out/customers/*.parquet') c, (SELECT max(customer_id) AS last FROM 'data/existing.parquet') e
WHERE c.first <> e.last + 1;
SELECT 'dense', count(*), min(customer_id), max(customer_id) FROM 'out/customers/*.parquet'
HAVING count(*) <> 400 OR max(customer_id) - min(customer_id) + 1 <> count(*);
-- In the order in which they appear first.
WITH seen AS (
  SELECT email, row_number() OVER (ORDER BY min(n)) AS place
  FROM (SELECT email, row_number() OVER (ORDER BY filename, file_row_number) AS n
        FROM read_parquet('data/new-*.parquet', filename = true, file_row_number = true)) GROUP BY email
)
SELECT 'order', * FROM seen JOIN 'out/customers/*.parquet' USING (email)
WHERE customer_id <> place + (SELECT max(customer_id) FROM 'data/existing.parquet');
-- Tickets count down in tens from the smallest one.
SELECT 'tickets', count(*), max(ticket_no), min(ticket_no) FROM 'out/tickets/*.parquet'
HAVING max(ticket_no) <> 100000 - 490 - 10 OR min(ticket_no) <> max(ticket_no) - 10 * 1499 OR count(*) <> 1500;
SELECT 'reference', * FROM 'out/tickets/*.parquet' WHERE customer_id NOT IN (SELECT customer_id FROM 'out/customers/*.parquet');
