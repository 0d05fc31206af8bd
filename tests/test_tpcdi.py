"""A dimensional load of sources that others made: benchbox (TPC-DI) hands over a brokerage's history and two batches that
come later. DuckDB makes wide trades of them, as a feed has them; Seriatim takes these apart into dimensions with
surrogate keys and a table of facts, batch by batch. Every table is then compared, row by row, with SQL that numbers the
same records for itself, and sums over the star with sums over benchbox's own dimensions and keys.

In the batches there is what a load meets: customers and accounts that are new, known brokers, known securities and
companies that say something else about themselves now, and trades whose customer or security nobody knows.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from conftest import HANG, assert_verifies, scale, tree

#: Where scripts/test installs benchbox: see requirements-benchbox.txt.
BENCHBOX = Path(sys.prefix) / "benchbox" / "bin" / "python"

PIPELINE = """\
version: 1
name: brokerage
source: {files: data/*.parquet}
tables:
  customers:
    key: customer_id
    id: sk_customer
    columns: [tax_id, last_name, first_name, tier, city, state, email]
  brokers:
    key: broker_id
    id: sk_broker
    columns: [broker, branch, office]
  accounts:
    key: account_id
    id: sk_account
    references: [customers, brokers]
    columns: [account, tax_status]
  companies:
    key: company
    id: sk_company
    columns: [industry, sp_rating, ceo]
  securities:
    key: [exchange, symbol]
    id: sk_security
    references: [companies]
    columns: [security]
  trades:
    id: sk_trade
    references: [accounts, securities]
    columns: [trade_id, traded_on, trade_type, quantity, price]
output: {path: out}
"""

#: The same once more for the SQL below: key, ID, references, columns.
TABLES = {
    "customers": (["customer_id"], "sk_customer", [], ["tax_id", "last_name", "first_name", "tier", "city", "state", "email"]),
    "brokers": (["broker_id"], "sk_broker", [], ["broker", "branch", "office"]),
    "accounts": (["account_id"], "sk_account", ["customers", "brokers"], ["account", "tax_status"]),
    "companies": (["company"], "sk_company", [], ["industry", "sp_rating", "ceo"]),
    "securities": (["exchange", "symbol"], "sk_security", ["companies"], ["security"]),
    "trades": ([], "sk_trade", ["accounts", "securities"], ["trade_id", "traded_on", "trade_type", "quantity", "price"]),
}

RECORDS = """
    CREATE TABLE feed (
        file VARCHAR, trade_id BIGINT, traded_on DATE, trade_type VARCHAR, quantity INTEGER, price DECIMAL(12, 2),
        account_id BIGINT, account VARCHAR, tax_status TINYINT,
        customer_id BIGINT, tax_id VARCHAR, last_name VARCHAR, first_name VARCHAR, tier TINYINT, city VARCHAR,
        state VARCHAR, email VARCHAR,
        broker_id BIGINT, broker VARCHAR, branch VARCHAR, office VARCHAR,
        exchange VARCHAR, symbol VARCHAR, security VARCHAR,
        company VARCHAR, industry VARCHAR, sp_rating VARCHAR, ceo VARCHAR)
"""

#: The history, three years a file. Its last year is left for the first batch.
HISTORY = """
    INSERT INTO feed
    SELECT
        CASE WHEN year(d.DateValue) = 2025 THEN '1-incremental-a' ELSE '0-history-' || year(d.DateValue) // 3 * 3 END,
        t.TradeID, d.DateValue, t.Type, t.Quantity, t.TradePrice,
        a.AccountID, a.AccountDesc, a.TaxStatus,
        c.CustomerID, c.TaxID, c.LastName, c.FirstName, c.Tier, c.City, c.StateProv, c.Email1,
        b.BrokerID, b.FirstName || ' ' || b.LastName, b.Branch, b.Office,
        s.ExchangeID, s.Symbol, s.Name, m.Name, m.Industry, m.SPRating, m.CEO
    FROM FactTrade t
    JOIN DimDate d ON d.SK_DateID = t.SK_CreateDateID
    JOIN DimAccount a USING (SK_AccountID)
    JOIN DimCustomer c ON c.SK_CustomerID = a.SK_CustomerID
    JOIN DimBroker b ON b.SK_BrokerID = a.SK_BrokerID
    JOIN DimSecurity s USING (SK_SecurityID)
    JOIN DimCompany m ON m.SK_CompanyID = s.SK_CompanyID
    ORDER BY d.DateValue, t.TradeID
"""

#: A batch. A trade knows its customer and its security; the account is the customer's, the broker the account's. Neither
#: customers nor securities have all that the trades name. The files do not say whose a security is: they go round.
BATCH = """
    INSERT INTO feed
    WITH customers AS (FROM read_csv('source/csv/{batch}/customers_{batch}.csv', all_varchar = true)),
    accounts AS (FROM read_json('source/json/{batch}/accounts_{batch}.json')
                 QUALIFY row_number() OVER (PARTITION BY customer_id ORDER BY account_id) = 1),
    companies AS (SELECT *, substr(company_id, 5)::INTEGER AS place FROM read_json('companies-{batch}.json')),
    securities AS (
        SELECT trim(substr(line, 1, 8)) AS symbol, trim(substr(line, 9, 30)) AS name, trim(substr(line, 39, 10)) AS exchange,
               substr(line, 4, 5)::INTEGER AS place
        FROM read_csv('source/fixed_width/{batch}/securities_{batch}.txt', header = false, columns = {{line: 'VARCHAR'}},
                      delim = '|'))
    SELECT
        '{file}', t.TradeID, d.DateValue, t.Type, t.Quantity, t.TradePrice,
        a.account_id, a.account_desc, a.tax_status,
        c.CustomerID, c.TaxID, c.LastName, c.FirstName, c.Tier, c.City, c.StateProv, c.Email1,
        b.BrokerID, b.FirstName || ' ' || b.LastName, b.Branch, b.Office,
        s.exchange, s.symbol, s.name, m.name, m.industry, m.sp_rating, m.ceo
    FROM read_csv('source/csv/{batch}/trades_{batch}.csv') t
    JOIN DimDate d ON d.SK_DateID = t.SK_CreateDateID
    LEFT JOIN customers c ON c.SK_CustomerID::BIGINT = t.SK_CustomerID
    LEFT JOIN accounts a ON a.customer_id = c.CustomerID::BIGINT
    LEFT JOIN DimBroker b ON b.BrokerID = a.broker_id
    LEFT JOIN securities s ON s.place = t.SK_SecurityID - 1
    LEFT JOIN companies m ON m.place = s.place % (SELECT count(*) FROM companies)
    ORDER BY t.TradeID
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A connection that has benchbox's dimensions and facts, and the feed: wide trades, each with the file it comes in."""
    if not BENCHBOX.exists():
        pytest.skip(f"benchbox is not installed: there is no {BENCHBOX}; `scripts/test system` installs it")
    folder = tmp_path_factory.mktemp("benchbox")
    command = [str(BENCHBOX), str(Path(__file__).with_name("tpcdi.py")), str(folder), str(max(1, min(scale(), 10)))]
    # Its modules are many: compiled once, they stay.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    made = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=HANG)
    assert made.returncode == 0, made.stderr
    connection = duckdb.connect(config={"threads": 2, "file_search_path": str(folder)})
    for table, columns in json.loads((folder / "schema.json").read_text()).items():
        types = ", ".join(f"'{name}': '{type}'" for name, type in columns)
        connection.execute(f"CREATE TABLE {table} AS FROM read_csv('{table}.tbl', delim = '|', columns = {{{types}}})")
    connection.execute(RECORDS)
    connection.execute(HISTORY)
    connection.execute(BATCH.format(batch="incremental", file="1-incremental-b"))
    connection.execute(BATCH.format(batch="scd", file="2-scd"))
    return connection


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    return tmp_path


def deliver(sources, folder, batch):
    """Writes the files of a batch: 0 is the history."""
    for [file] in sources.execute("SELECT DISTINCT file FROM feed WHERE file LIKE ?", [f"{batch}-%"]).fetchall():
        rows = f"SELECT * EXCLUDE file FROM feed WHERE file = '{file}' ORDER BY rowid"
        sources.execute(f"COPY ({rows}) TO '{folder}/data/{file}.parquet'")


def expected(connection, table):
    """What a table has to be: things in the order of their first records, numbered by the window function."""
    key, id, references, columns = TABLES[table]
    named = " AND ".join(f"{column} IS NOT NULL" for column in key) or "true"
    same = ", ".join(key) or "n"
    joins = "".join(f" LEFT JOIN expected_{other} USING ({', '.join(TABLES[other][0])})" for other in references)
    wanted = [id, *key, *(TABLES[other][1] for other in references), *(f"things.{column}" for column in columns)]
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE expected_{table} AS
        WITH known AS (SELECT *, min(n) OVER (PARTITION BY {same}) AS first FROM records WHERE {named}),
        things AS (SELECT *, row_number() OVER (ORDER BY n) AS {id} FROM known WHERE n = first)
        SELECT {', '.join(wanted)} FROM things{joins} ORDER BY {id}""")
    return connection.execute(f"FROM expected_{table} ORDER BY {id}").fetchall()


def assert_as_computed(folder):
    """Every table is what SQL makes of the files in `data`, row by row, read in the order of the files' names."""
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute(f"""
            CREATE TEMP TABLE records AS
            SELECT *, row_number() OVER (ORDER BY filename, file_row_number) AS n
            FROM read_parquet('{folder}/data/*.parquet', filename = true, file_row_number = true)""")
        for table in TABLES:
            rows = connection.execute(f"FROM '{folder}/out/{table}/*.parquet'").fetchall()
            assert rows == expected(connection, table), table


def run(program, folder):
    """Runs the pipeline; returns, of each table, how many rows are new and how many known keys were met."""
    [report] = program.json("run", "pipeline.yaml", cwd=folder)["runs"]
    assert_verifies(program, folder / "pipeline.yaml")
    return {table["table"]: (table["rows"], table["known_keys"]) for table in report["tables"]}


def test_g1_to_g4_a_history_and_two_batches_become_a_star(program, sources, folder):
    deliver(sources, folder, 0)
    history = run(program, folder)
    assert_as_computed(folder)
    assert history["customers"][0] > 100 and history["companies"][0] >= 10 and history["brokers"][0] >= 50, history

    before = tree(folder / "out")
    deliver(sources, folder, 1)
    incremental = run(program, folder)
    assert_as_computed(folder)
    for table in ["customers", "accounts", "companies", "securities"]:
        new, known = incremental[table]
        assert new > 0 and known > 0, f"the batch has new and known {table}: {incremental}"

    deliver(sources, folder, 2)
    scd = run(program, folder)
    assert_as_computed(folder)
    assert scd["customers"] == (0, scd["customers"][1]) and scd["customers"][1] > 0, f"all are known: {scd}"
    assert scd["accounts"][0] > 0, scd

    after = tree(folder / "out")
    parts = {name for name in before if name.endswith(".parquet")}
    assert parts and {name: after[name] for name in parts} == {name: before[name] for name in parts}


def test_g3_g5_all_at_once_has_the_same_rows(program, sources, folder):
    for batch in range(3):
        deliver(sources, folder, batch)
    run(program, folder)
    assert_as_computed(folder)


def test_references_sums_over_the_star_are_those_over_benchbox_s_own(program, sources, folder):
    """The history once more, put together by our surrogate keys, and by those that benchbox gave."""
    deliver(sources, folder, 0)
    run(program, folder)
    ours = f"""
        SELECT tier, branch, industry, count(*), sum(quantity), sum(quantity * price)
        FROM '{folder}/out/trades/*.parquet'
        JOIN '{folder}/out/accounts/*.parquet' USING (sk_account)
        JOIN '{folder}/out/customers/*.parquet' USING (sk_customer)
        JOIN '{folder}/out/brokers/*.parquet' USING (sk_broker)
        JOIN '{folder}/out/securities/*.parquet' USING (sk_security)
        JOIN '{folder}/out/companies/*.parquet' USING (sk_company)
        GROUP BY ALL ORDER BY ALL"""
    theirs = """
        SELECT c.Tier, b.Branch, m.Industry, count(*), sum(t.Quantity), sum(t.Quantity * t.TradePrice::DECIMAL(12, 2))
        FROM FactTrade t
        JOIN DimDate d ON d.SK_DateID = t.SK_CreateDateID
        JOIN DimAccount a USING (SK_AccountID)
        JOIN DimCustomer c ON c.SK_CustomerID = a.SK_CustomerID
        JOIN DimBroker b ON b.SK_BrokerID = a.SK_BrokerID
        JOIN DimSecurity s USING (SK_SecurityID)
        JOIN DimCompany m ON m.SK_CompanyID = s.SK_CompanyID
        WHERE year(d.DateValue) < 2025
        GROUP BY ALL ORDER BY ALL"""
    sums = sources.execute(ours).fetchall()
    assert len(sums) > 50
    assert sums == sources.execute(theirs).fetchall()
