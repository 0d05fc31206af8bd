CREATE TEMP VIEW expected AS
    SELECT "at"::TIMESTAMPTZ AS "at", kind, "user".email AS email, "value", tags, items
    FROM read_json('data/1.ndjson', columns = {'at': 'VARCHAR', 'kind': 'VARCHAR',
        'user': 'STRUCT(email VARCHAR, name VARCHAR)', 'value': 'BIGINT', 'tags': 'VARCHAR[]',
        'items': 'STRUCT(price DECIMAL(10, 2), sku VARCHAR)[]'})
    UNION ALL
    SELECT "at"::TIMESTAMPTZ, kind, "user".email, NULL, NULL, NULL
    FROM read_json('data/2.ndjson', columns = {'at': 'VARCHAR', 'kind': 'VARCHAR', 'user': 'STRUCT(email VARCHAR)'});

CREATE TEMP VIEW found AS
    SELECT "at", kind, email, "value", tags, items
    FROM 'out/events/*.parquet' JOIN 'out/users/*.parquet' USING (user_id);

SELECT 'missing', * FROM (FROM expected EXCEPT ALL FROM found);

SELECT 'too much', * FROM (FROM found EXCEPT ALL FROM expected);

SELECT 'type', column_name, column_type FROM (DESCRIBE FROM 'out/events/*.parquet')
WHERE column_name = 'items' AND column_type <> 'STRUCT(price DECIMAL(10,2), sku VARCHAR)[]';

SELECT 'user', * FROM 'out/users/*.parquet'
WHERE user_id <> 1 + substring(email, 2, position('@' IN email) - 2)::INTEGER
    OR (user_id <= 12 AND name <> 'User ' || (user_id - 1)) OR (user_id > 12 AND name IS NOT NULL);

SELECT 'events', count(*) FROM 'out/events/*.parquet' HAVING count(*) <> 260 OR max(event_id) <> 260;
