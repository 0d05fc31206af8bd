-- What exists: customers in two files, of which one is empty, and tickets with numbers that count down.
COPY (SELECT (i * 7919) % 5003 + 1 AS customer_id, 'old' || i || '@example.org' AS email FROM range(1000) t(i))
  TO 'data/existing.parquet' (FORMAT parquet);
COPY (SELECT 100000 - 10 * i AS number FROM range(50) t(i)) TO 'data/old-tickets.parquet' (FORMAT parquet);
COPY (SELECT customer_id, email, part FROM 'data/existing.parquet', (VALUES ('a')) p(part))
  TO 'data/existing' (FORMAT parquet, PARTITION_BY (part));
COPY (SELECT 'new' || (i % 300) || '@example.org' AS email, 'name ' || (i % 300) AS name, 'subject ' || i AS subject
      FROM range(1000) t(i)) TO 'data/new-1.parquet' (FORMAT parquet);
