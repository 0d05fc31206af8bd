-- 100 more, and one of the countries has another name and region.
COPY (
    SELECT
        'B' || n AS order_no,
        ['DE', 'CA', 'US'][1 + n % 3] AS country,
        'M' || n % 3 AS maker,
        n % 9 AS product_no,
        1::BIGINT AS pieces
    FROM range(100) AS r(n)
    ORDER BY n
) TO 'data/orders-2.parquet';

COPY (
    FROM (VALUES
        ('DE', 'Deutschland', 'Europa'), ('FR', 'France', 'Europe'), ('US', 'United States', 'America'), ('CA', 'Canada', 'America')
    ) AS c(code, name, region)
) TO 'data/countries.csv' (HEADER);
