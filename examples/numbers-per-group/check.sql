-- Within each group the numbers are 1, 2, 3, ... in the order of the IDs.
SELECT 'invoice', * FROM (
  SELECT *, row_number() OVER (PARTITION BY country, year ORDER BY invoice_id) AS due FROM 'out/invoices/*.parquet'
) WHERE invoice_no <> due;
SELECT 'position', * FROM (
  SELECT *, row_number() OVER (PARTITION BY article ORDER BY position_id) AS due FROM 'out/positions/*.parquet'
) WHERE position_id_in_group <> due;
-- The code is made of the number within the group.
SELECT 'code', * FROM 'out/invoices/*.parquet'
WHERE invoice_code IS DISTINCT FROM concat('INV-', country, '-', year, '-', lpad(invoice_no::VARCHAR, 6, '0'));
-- The group is that of the invoice's first line.
WITH first AS (
  SELECT reference, country, year(invoiced) AS year FROM read_parquet('data/*.parquet', filename = true, file_row_number = true)
  QUALIFY row_number() OVER (PARTITION BY reference ORDER BY filename, file_row_number) = 1
)
SELECT 'first line', * FROM first FULL JOIN 'out/invoices/*.parquet' o USING (reference)
WHERE first.country IS DISTINCT FROM o.country OR first.year IS DISTINCT FROM o.year;
SELECT 'rows', count(*) FROM 'out/positions/*.parquet' HAVING count(*) <> 5000;
