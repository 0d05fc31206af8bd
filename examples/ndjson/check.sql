CREATE TEMP VIEW expected AS
    SELECT "at"::TIMESTAMPTZ AS at, kind, "user".email AS email, "value"
    FROM read_json('data/1.ndjson', columns = {'at': 'VARCHAR', 'kind': 'VARCHAR',
        'user': 'STRUCT(email VARCHAR, name VARCHAR)', 'value': 'BIGINT'})
    UNION ALL
    SELECT "at"::TIMESTAMPTZ, kind, "user".email, NULL
    FROM read_json('data/2.ndjson', columns = {'at': 'VARCHAR', 'kind': 'VARCHAR', 'user': 'STRUCT(email VARCHAR)'});

CREATE TEMP VIEW found AS
    SELECT at, kind, "user.email" AS email, "value"
    FROM 'out/events/*.parquet' JOIN 'out/users/*.parquet' USING (user_id);

SELECT 'missing', * FROM (FROM expected EXCEPT ALL FROM found);

SELECT 'too much', * FROM (FROM found EXCEPT ALL FROM expected);

SELECT 'user', * FROM 'out/users/*.parquet'
WHERE user_id <> 1 + substring("user.email", 2, position('@' IN "user.email") - 2)::INTEGER
    OR (user_id <= 12 AND "user.name" <> 'User ' || (user_id - 1)) OR (user_id > 12 AND "user.name" IS NOT NULL);

SELECT 'tags', * FROM 'out/events/*.parquet' WHERE event_id <= 240 AND tags NOT IN ('["a","b0"]', '["a","b1"]');

SELECT 'events', count(*) FROM 'out/events/*.parquet' HAVING count(*) <> 260 OR max(event_id) <> 260;
