CREATE VIEW records AS
SELECT *, row_number() OVER (ORDER BY filename, file_row_number) AS n
FROM read_parquet('data/*.parquet', filename = true, file_row_number = true);

-- The name is the last one of the run, which is the file, in which the passenger is new.
CREATE VIEW expected_passengers AS
SELECT 990 + 10 * row_number() OVER (ORDER BY min(n)) AS passenger_id, passport, last(name ORDER BY n) AS name
FROM (FROM records SELECT *, min(filename) OVER (PARTITION BY passport) AS first_file)
WHERE filename = first_file GROUP BY passport;

CREATE VIEW expected_flights AS
SELECT -row_number() OVER (ORDER BY min(n)) AS flight_id, flight_no, day, first(gate ORDER BY n) AS gate
FROM records GROUP BY flight_no, day;

CREATE VIEW expected_seats AS
SELECT row_number() OVER (ORDER BY min(n)) AS seat_id, flight_no, day, seat, flight_id, first(passenger_id ORDER BY n)
FROM records JOIN expected_flights USING (flight_no, day) JOIN expected_passengers USING (passport)
GROUP BY flight_no, day, seat, flight_id;

(FROM expected_passengers EXCEPT ALL FROM 'out/passengers/*.parquet')
UNION ALL (FROM 'out/passengers/*.parquet' EXCEPT ALL FROM expected_passengers);

(FROM expected_flights EXCEPT ALL FROM 'out/flights/*.parquet')
UNION ALL (FROM 'out/flights/*.parquet' EXCEPT ALL FROM expected_flights);

(FROM expected_seats EXCEPT ALL FROM 'out/seats/*.parquet')
UNION ALL (FROM 'out/seats/*.parquet' EXCEPT ALL FROM expected_seats);

-- Names that changed within a run, and names that a later run did not change.
SELECT 'no name changed' WHERE NOT EXISTS (FROM 'out/passengers/*.parquet' WHERE name LIKE '%(married)');

SELECT 'no married passenger came again' WHERE NOT EXISTS (
    FROM 'out/passengers/*.parquet' AS p JOIN 'data/may-2.parquet' AS later USING (passport) WHERE p.name <> later.name);
