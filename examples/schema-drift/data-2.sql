COPY (
    SELECT 'D-' || i AS order_no, 'c' || (i % 13) || '@example.org' AS cust_mail, (i % 5)::SMALLINT AS quantity
    FROM range(100) AS t(i)
) TO 'data/2026-04.parquet';
