-- 200 orders. Some countries are unknown or missing, some are written small; products 8 and 9 of each maker do not exist.
COPY (
    SELECT
        'A' || n AS order_no,
        CASE WHEN n % 13 <> 0 THEN ['DE', 'fr', 'US', 'XX'][1 + n % 4] END AS country,
        'M' || n % 3 AS maker,
        n % 10 AS product_no,
        1 + n % 5 AS pieces
    FROM range(200) AS r(n)
    ORDER BY n
) TO 'data/orders-1.parquet';

COPY (
    FROM (VALUES ('DE', 'Germany', 'Europe'), ('FR', 'France', 'Europe'), ('US', 'United States', 'America')) AS c(code, name, region)
) TO 'data/countries.csv' (HEADER);

COPY (
    SELECT 'M' || m AS maker, n::SMALLINT AS number, 'Product ' || m || '/' || n AS product, (m * 10 + n)::DECIMAL(8, 2) AS price
    FROM range(3) AS a(m), range(8) AS b(n)
) TO 'data/products.parquet';
