-- In which run a payment came in: at once, mended, or as a refund. A payment that has both faults fails by its amount.
CREATE VIEW sorted AS
SELECT *, file_row_number AS n,
    CASE WHEN amount <= 0 AND currency = '???' THEN 9 WHEN amount <= 0 THEN 3 WHEN currency = '???' THEN 2 ELSE 1 END AS run
FROM read_parquet('data/*.parquet', file_row_number = true);

-- What is left waits for ever: refunds.yaml checks the currency too.
CREATE VIEW taken AS SELECT * FROM sorted WHERE run < 9;

CREATE VIEW expected_cards AS
SELECT row_number() OVER (ORDER BY run, n) AS card_id, card
FROM (SELECT card, min_by(run, (run, n)) AS run, min_by(n, (run, n)) AS n FROM taken GROUP BY card);

CREATE VIEW expected_payments AS
SELECT row_number() OVER (ORDER BY run, n) AS payment_id, payment, card_id, amount,
    if(currency = '???', 'EUR', currency) AS currency
FROM taken JOIN expected_cards USING (card);

(FROM expected_cards EXCEPT ALL FROM 'out/cards/*.parquet')
UNION ALL (FROM 'out/cards/*.parquet' EXCEPT ALL FROM expected_cards);

(FROM expected_payments EXCEPT ALL FROM 'out/payments/*.parquet')
UNION ALL (FROM 'out/payments/*.parquet' EXCEPT ALL FROM expected_payments);

-- What each run has set aside, with its place in the source.
CREATE VIEW aside AS
SELECT payment, _check, _file, _row::BIGINT AS _row, _run::BIGINT AS _run FROM 'out/_quarantine/*.parquet';

CREATE VIEW expected_aside AS
SELECT payment, CASE WHEN _run < 3 AND amount <= 0 THEN 'positive_amount' ELSE 'known_currency' END AS _check,
    'data/2026-05.parquet', n, _run
FROM sorted, range(1, 4) AS runs(_run) WHERE run > _run;

(FROM expected_aside EXCEPT ALL FROM aside) UNION ALL (FROM aside EXCEPT ALL FROM expected_aside);
