-- February: customers 50 to 89, so that 20 are known; their names have changed. The order J-299 goes on.
COPY (
    SELECT
        CASE WHEN line < 2 THEN 'J-299' ELSE 'F-' || line // 3 END AS order_no,
        DATE '2026-02-01' + (line // 30)::INTEGER AS order_date,
        'customer-' || CASE WHEN line < 2 THEN 299 * 37 % 70 ELSE 50 + line // 3 * 7 % 40 END || '@example.org' AS email,
        'Renamed ' || line // 3 AS name,
        'se' AS country,
        1 + line % 4 AS quantity,
        (2.50 + line % 13)::DECIMAL(8, 2) AS price
    FROM range(240) AS r(line)
    ORDER BY line
) TO 'data/part-2026-02.parquet';
