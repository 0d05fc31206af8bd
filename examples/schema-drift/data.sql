COPY (
    SELECT 'A-' || i AS order_no, 'c' || (i % 7) || '@example.org' AS cust_mail, (i % 5)::INTEGER AS quantity
    FROM range(100) AS t(i)
) TO 'data/2026-01.parquet';

COPY (
    SELECT (i * 1000000000)::BIGINT AS quantity, 'c' || (i % 9) || '@example.org' AS email, 'B-' || i AS order_no
    FROM range(100) AS t(i)
) TO 'data/2026-02.parquet';

COPY (
    SELECT 'C-' || i AS order_no, 'c' || (i % 11) || '@example.org' AS email, (i % 5)::BIGINT AS quantity,
        (i % 10)::DECIMAL(5, 2) AS discount, 'web' AS channel
    FROM range(100) AS t(i)
) TO 'data/2026-03.parquet';
