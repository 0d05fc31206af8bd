COPY (
    SELECT '2026-01-02T00:00:00Z' AS "at", 'view' AS kind,
        {'email': 'u' || i || '@example.org', 'agent': 'new, and in no table'} AS "user"
    FROM range(20) AS t(i)
) TO 'data/2.ndjson' (FORMAT json);
