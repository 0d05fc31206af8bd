-- January in two files: 900 lines of 300 orders by 70 customers. Every tenth line has no quantity.
CREATE TABLE lines AS
SELECT
    'J-' || line // 3 AS order_no,
    DATE '2026-01-01' + (line // 30)::INTEGER AS order_date,
    'customer-' || (line // 3 * 37) % 70 || '@example.org' AS email,
    'Customer ' || (line // 3 * 37) % 70 AS name,
    ['fi', 'ee', 'es'][1 + (line // 3 * 37) % 70 % 3] AS country,
    CASE WHEN line % 10 = 0 OR line // 3 = 50 THEN 0 ELSE 1 + line % 4 END AS quantity,
    (1.25 + line % 17)::DECIMAL(8, 2) AS price
FROM range(900) AS r(line)
ORDER BY line;

COPY (FROM lines LIMIT 500) TO 'data/part-2026-01-a.parquet';
COPY (FROM lines OFFSET 500) TO 'data/part-2026-01-b.parquet';
