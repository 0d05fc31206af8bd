COPY (
    SELECT 'new' || i || '@example.org' AS email, NULL AS note, '00007' AS article, NULL AS quantity,
        1.50 AS price, TIMESTAMP '2026-03-01 10:00:00' AS "ordered at"
    FROM range(20) AS t(i)
) TO 'data/2026-03.csv' (HEADER, DELIMITER ';');
