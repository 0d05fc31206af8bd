CREATE VIEW records AS
SELECT
    row_number() OVER (ORDER BY filename, file_row_number) AS event_id,
    event_no,
    tags,
    lower(actor.login) AS login,
    actor.name AS name,
    labels['region'] AS region
FROM read_parquet('data/*.parquet', filename = true, file_row_number = true);

CREATE VIEW expected_actors AS
SELECT row_number() OVER (ORDER BY min(event_id)) AS actor_id, login, first(name ORDER BY event_id) AS name
FROM records WHERE login IS NOT NULL GROUP BY login;

CREATE VIEW expected_regions AS
SELECT row_number() OVER (ORDER BY min(event_id)) AS region_id, region
FROM records WHERE region IS NOT NULL GROUP BY region;

CREATE VIEW expected_events AS
SELECT event_id, actor_id, region_id, event_no, tags
FROM records LEFT JOIN expected_actors USING (login) LEFT JOIN expected_regions USING (region);

(FROM expected_actors EXCEPT ALL FROM 'out/actors/*.parquet')
UNION ALL (FROM 'out/actors/*.parquet' EXCEPT ALL FROM expected_actors);

(FROM expected_regions EXCEPT ALL FROM 'out/regions/*.parquet')
UNION ALL (FROM 'out/regions/*.parquet' EXCEPT ALL FROM expected_regions);

(FROM expected_events EXCEPT ALL FROM 'out/events/*.parquet')
UNION ALL (FROM 'out/events/*.parquet' EXCEPT ALL FROM expected_events);

-- There are events without an actor, and without a region.
SELECT 'each event has an actor' WHERE NOT EXISTS (FROM 'out/events/*.parquet' WHERE actor_id IS NULL);

SELECT 'each event has a region' WHERE NOT EXISTS (FROM 'out/events/*.parquet' WHERE region_id IS NULL);
