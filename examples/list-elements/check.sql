-- A row for each element, in the order of files, records and lists, and with what the element says.
CREATE VIEW items AS
SELECT row_number() OVER (ORDER BY filename, file_row_number, nth) AS item_id, item.*, order_no, nth AS item_no
FROM (
  SELECT filename, file_row_number, order_no, unnest(items) AS item, generate_subscripts(items, 1) AS nth
  FROM read_parquet('data/*.parquet', filename = true, file_row_number = true)
);
CREATE VIEW written AS
SELECT i.item_id, i.item_no, p.sku, i.quantity, i.price, o.order_no, i.order_no AS carried
FROM 'out/order_items/*.parquet' i
LEFT JOIN 'out/orders/*.parquet' o USING (order_id)
LEFT JOIN 'out/products/*.parquet' p USING (product_id);
SELECT 'item', * FROM items e FULL JOIN written w USING (item_id)
WHERE e.sku IS DISTINCT FROM w.sku OR e.quantity IS DISTINCT FROM w.quantity OR e.price IS DISTINCT FROM w.price
   OR e.order_no IS DISTINCT FROM w.order_no OR e.order_no IS DISTINCT FROM w.carried
   OR e.item_no IS DISTINCT FROM w.item_no;
-- Products are numbered by their first element, and have its title.
WITH first AS (
  SELECT sku, arg_min(title, item_id) AS title, row_number() OVER (ORDER BY min(item_id)) AS product_id
  FROM items WHERE sku IS NOT NULL GROUP BY sku
)
SELECT 'product', * FROM first f FULL JOIN 'out/products/*.parquet' p USING (product_id)
WHERE f.sku IS DISTINCT FROM p.sku OR f.title IS DISTINCT FROM p.title;
-- Tags are plain values.
CREATE VIEW tagged AS
SELECT filename, file_row_number, order_no, unnest(tags) AS tag, generate_subscripts(tags, 1) AS nth
FROM read_parquet('data/*.parquet', filename = true, file_row_number = true);
WITH first AS (
  SELECT tag, row_number() OVER (ORDER BY min((filename, file_row_number, nth))) AS tag_id FROM tagged GROUP BY tag
)
SELECT 'tag', * FROM first f FULL JOIN 'out/tags/*.parquet' t USING (tag_id) WHERE f.tag IS DISTINCT FROM t.tags;
CREATE VIEW tags_written AS
SELECT o.order_no, t.tags AS tag FROM 'out/order_tags/*.parquet' u
JOIN 'out/orders/*.parquet' o USING (order_id) JOIN 'out/tags/*.parquet' t USING (tag_id);
(SELECT 'missing', order_no, tag FROM tagged EXCEPT ALL SELECT 'missing', order_no, tag FROM tags_written)
UNION ALL
(SELECT 'too many', order_no, tag FROM tags_written EXCEPT ALL SELECT 'too many', order_no, tag FROM tagged);
-- Orders without items are orders all the same.
SELECT 'orders', count(*) FROM 'out/orders/*.parquet' HAVING count(*) <> 4000;
