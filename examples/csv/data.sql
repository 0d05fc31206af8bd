COPY (
    SELECT 'c' || (i % 10) || '@example.org' AS email,
        CASE WHEN i % 10 = 3 THEN E'calls back;\nsays "soon"' WHEN i % 10 = 4 THEN NULL ELSE 'ok' END AS note,
        lpad((i % 20)::VARCHAR, 5, '0') AS article, i % 6 AS quantity,
        (i % 50 + 0.25)::DECIMAL(10, 2) AS price, TIMESTAMP '2026-01-01' + to_minutes(i::INTEGER) AS "ordered at"
    FROM range(200) AS t(i)
) TO 'data/2026-01.csv' (HEADER, DELIMITER ';');

COPY (
    SELECT 'c' || (i % 15) || '@example.org' AS email, 'ok' AS note, lpad((i % 30)::VARCHAR, 5, '0') AS article,
        CASE WHEN i % 6 > 0 THEN i % 6 END AS quantity, (i % 50)::DECIMAL(10, 2) AS price,
        TIMESTAMP '2026-02-01' + to_minutes(i::INTEGER) AS "ordered at"
    FROM range(200) AS t(i)
) TO 'data/2026-02.csv.gz' (HEADER, DELIMITER ';', COMPRESSION gzip);
