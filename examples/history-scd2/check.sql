-- What each list says of a product (of several lines, the last one), and where that differs from the list before.
CREATE TEMP TABLE lines AS
  SELECT * EXCLUDE filename, row_number() OVER (ORDER BY filename, file_row_number) AS n
  FROM read_parquet('data/list-*.parquet', filename = true, file_row_number = true);
CREATE TEMP TABLE said AS
  SELECT sku, day, title, group_name, price FROM lines QUALIFY n = max(n) OVER (PARTITION BY sku, day);
CREATE TEMP TABLE versions AS
  SELECT * FROM said
  WINDOW w AS (PARTITION BY sku ORDER BY day)
  QUALIFY lag(day) OVER w IS NULL OR (title, group_name, price) IS DISTINCT FROM (lag(title) OVER w, lag(group_name) OVER w, lag(price) OVER w);
CREATE TEMP TABLE expected AS
  SELECT i.product_id, 'P-' || lpad(i.product_id::VARCHAR, 5, '0') AS product_id_text, v.sku, v.group_name, v.title, v.price,
         v.day AS valid_from, lead(v.day) OVER w AS valid_to, lead(v.day) OVER w IS NULL AS is_current
  FROM versions v JOIN (SELECT sku, row_number() OVER (ORDER BY min(n)) AS product_id FROM lines GROUP BY sku) i USING (sku)
  WINDOW w AS (PARTITION BY v.sku ORDER BY v.day);
CREATE TEMP VIEW found AS
  SELECT p.product_id, p.product_id_text, p.sku, g.group_name, p.title, p.price, p.valid_from, p.valid_to, p.is_current
  FROM 'out/products/*.parquet' p LEFT JOIN 'out/groups/*.parquet' g USING (group_id);
SELECT 'a version is missing', * FROM (FROM expected EXCEPT ALL FROM found);
SELECT 'a version too many', * FROM (FROM found EXCEPT ALL FROM expected);
-- On any day a product has one price.
SELECT 'two prices on one day', product_id FROM found
  WHERE DATE '2026-02-14' >= valid_from AND (valid_to IS NULL OR DATE '2026-02-14' < valid_to)
  GROUP BY product_id HAVING count(*) <> 1;
SELECT 'current', product_id FROM found GROUP BY product_id HAVING count(*) FILTER (is_current) <> 1;
-- Versions stand together, in the order of time.
SELECT 'order', * FROM (
  SELECT product_id, valid_from, row_number() OVER (ORDER BY filename, file_row_number) AS there,
         row_number() OVER (ORDER BY product_id, valid_from) AS due
  FROM read_parquet('out/products/*.parquet', filename = true, file_row_number = true)) WHERE there <> due;
SELECT 'groups', count(*) FROM 'out/groups/*.parquet' HAVING count(*) <> (SELECT count(DISTINCT group_name) FROM lines);
SELECT 'no product has three versions' WHERE NOT EXISTS (SELECT product_id FROM found GROUP BY product_id HAVING count(*) = 3);
