-- 120 orders of 25 customers; every eleventh has no customer, every seventh customer no e-mail.
COPY (
    SELECT
        'A' || n AS order_no,
        CASE WHEN n % 11 <> 0 THEN {
            'email': CASE WHEN n % 25 % 7 <> 0 THEN 'c' || n % 25 || '@example.org' END,
            'name': 'Somebody ' || n % 25,
            'address': {'city': ['Rome', 'Oslo', 'Lima'][1 + n % 25 % 3], 'street': 'Street ' || n % 25}
        } END AS customer,
        n * 3 % 50 AS total
    FROM range(120) AS r(n)
    ORDER BY n
) TO 'data/a.parquet';
