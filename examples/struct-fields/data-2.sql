-- 60 more, of customers 20 to 39. Fields are in another order, and there is a new one.
COPY (
    SELECT
        'B' || n AS order_no,
        {
            'address': {'city': ['Rome', 'Oslo', 'Lima'][1 + (20 + n % 20) % 3], 'street': NULL::VARCHAR},
            'phone': '555-' || n,
            'name': 'Somebody ' || 20 + n % 20,
            'email': 'c' || 20 + n % 20 || '@example.org'
        } AS customer,
        n * 7 % 50 AS total
    FROM range(60) AS r(n)
    ORDER BY n
) TO 'data/b.parquet';
