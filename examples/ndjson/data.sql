COPY (
    SELECT '2026-01-01T00:00:' || lpad((i % 60)::VARCHAR, 2, '0') || 'Z' AS "at",
        CASE WHEN i % 3 = 0 THEN 'click' ELSE 'view' END AS kind,
        {'email': 'u' || (i % 12) || '@example.org', 'name': 'User ' || (i % 12)} AS "user",
        CASE WHEN i % 4 = 0 THEN NULL ELSE i END AS "value", ['a', 'b' || (i % 2)] AS tags,
        [{'sku': 's' || (i % 7), 'price': (i % 100) / 4 + n} FOR n IN range(i % 3)] AS items
    FROM range(240) AS t(i)
) TO 'data/1.ndjson' (FORMAT json);
