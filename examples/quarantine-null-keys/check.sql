-- The bad file was ingested last, by the second run.
CREATE VIEW records AS
SELECT *, row_number() OVER (ORDER BY filename LIKE '%bad%', filename, file_row_number) AS n
FROM read_parquet('data/*.parquet', filename = true, file_row_number = true);

CREATE VIEW good AS
SELECT *, row_number() OVER (ORDER BY n) AS reading_id FROM records WHERE sensor IS NOT NULL;

CREATE VIEW expected_sites AS
SELECT row_number() OVER (ORDER BY min(n)) AS site_id, site FROM good WHERE site IS NOT NULL GROUP BY site;

CREATE VIEW expected_sensors AS
SELECT row_number() OVER (ORDER BY n) AS sensor_id, sensor, site_id
FROM (SELECT sensor, first(site ORDER BY n) AS site, min(n) AS n FROM good GROUP BY sensor)
LEFT JOIN expected_sites USING (site);

CREATE VIEW expected_readings AS
SELECT reading_id, sensor_id, sites.site_id, taken_at, value
FROM good JOIN expected_sensors USING (sensor) LEFT JOIN expected_sites AS sites USING (site);

(FROM expected_sites EXCEPT ALL FROM 'out/sites/*.parquet')
UNION ALL (FROM 'out/sites/*.parquet' EXCEPT ALL FROM expected_sites);

(FROM expected_sensors EXCEPT ALL FROM 'out/sensors/*.parquet')
UNION ALL (FROM 'out/sensors/*.parquet' EXCEPT ALL FROM expected_sensors);

(FROM expected_readings EXCEPT ALL FROM 'out/readings/*.parquet')
UNION ALL (FROM 'out/readings/*.parquet' EXCEPT ALL FROM expected_readings);

-- The others are in quarantine, each as it was, with its place. Rows count from 0.
CREATE VIEW aside AS
SELECT sensor, site, taken_at, value, _file, _row::BIGINT AS _row, _run::BIGINT AS _run, _table
FROM 'out/_quarantine/*.parquet' WHERE _reason LIKE '%(sensor) is null%';

CREATE VIEW expected_aside AS
SELECT sensor, site, taken_at, value, filename, file_row_number, if(filename LIKE '%bad%', 2, 1), 'sensors'
FROM records WHERE sensor IS NULL;

(FROM expected_aside EXCEPT ALL FROM aside) UNION ALL (FROM aside EXCEPT ALL FROM expected_aside);
