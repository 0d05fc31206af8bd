-- Somebody has given a larger ID meanwhile: it does not matter any more.
COPY (SELECT 900000 AS customer_id, 'later@example.org' AS email) TO 'data/existing/part=a/data_0.parquet' (FORMAT parquet);
COPY (SELECT 'new' || (200 + i % 200) || '@example.org' AS email, 'name ' || (200 + i % 200) AS name, 'more ' || i AS subject
      FROM range(500) t(i)) TO 'data/new-2.parquet' (FORMAT parquet);
