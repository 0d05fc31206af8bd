-- 200 events of 30 actors, who write their names in two ways. Every ninth has no actor, every fourth no region.
COPY (
    SELECT
        'E' || n AS event_no,
        CASE WHEN n % 9 <> 0 THEN {
            'login': CASE WHEN n % 2 = 0 THEN 'USER' ELSE 'user' END || n * 7 % 30,
            'name': 'Somebody ' || n * 7 % 30
        } END AS actor,
        CASE WHEN n % 4 = 0 THEN MAP {'plan': 'free'} ELSE MAP {'region': ['north', 'south', 'west'][1 + n % 3]} END AS labels,
        ['n' || n, 'all'] AS tags
    FROM range(200) AS r(n)
    ORDER BY n
) TO 'data/events.parquet';
