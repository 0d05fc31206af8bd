-- More of them: actors 30 to 39 are new, and a region.
COPY (
    SELECT
        'F' || n AS event_no,
        {'login': 'User' || n % 40, 'name': 'Somebody ' || n % 40} AS actor,
        MAP {'region': ['east', 'south'][1 + n % 2]} AS labels,
        ['m' || n] AS tags
    FROM range(80) AS r(n)
    ORDER BY n
) TO 'data/more.parquet';
