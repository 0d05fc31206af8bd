"""Makes the benchmark's source data, each set once: `recipes.py FOLDER NAME...`.

A set is a folder of Parquet files whose names sort in the order of their records, with a stamp that names the recipe
it was made by; a set with the right stamp is left alone. The same recipe gives the same records on every machine: all
that looks random is a hash of the record with a fixed seed. It must never be called by what is being measured.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow
import pyarrow.parquet

#: Rows of a row group of every source file.
ROW_GROUP = 131_072
#: Goes into every hash that stands for chance.
SEED = 20_240_607
#: What DuckDB may take of the memory while it shuffles; more goes to the disk.
MEMORY = "9GB"
STAMP = "recipe.txt"


@dataclass(frozen=True)
class Recipe:
    #: Changed whenever the records change: sets that are there are then made again.
    version: int
    files: int
    #: The query that gives the records in order, from the folder of all sets and a folder for scratch files.
    records: Callable[[Path, Path], str]


#: Where the 25 columns of the reference data come from. The nation is the supplier's. A part's name alone is not
#: unique (five words out of 92), so its number follows: that keeps the key a long string, about 40 bytes.
TPCH = """
    SELECT o_orderkey, o_orderstatus, o_totalprice, o_orderdate, o_orderpriority,
           c_custkey, c_name, c_mktsegment, c_acctbal,
           p_name || ' ' || p_partkey AS p_name, p_brand, p_type,
           s_suppkey, s_name, s_acctbal,
           n_name, n_regionkey,
           l_quantity, l_extendedprice, l_discount, l_tax, l_returnflag, l_linestatus, l_shipdate, l_shipmode
    FROM '{raw}/lineitem.parquet'
    JOIN '{raw}/orders.parquet' ON o_orderkey = l_orderkey
    JOIN '{raw}/customer.parquet' ON c_custkey = o_custkey
    JOIN '{raw}/part.parquet' ON p_partkey = l_partkey
    JOIN '{raw}/supplier.parquet' ON s_suppkey = l_suppkey
    JOIN '{raw}/nation.parquet' ON n_nationkey = s_nationkey
    ORDER BY hash(l_orderkey, l_linenumber, {seed}), l_orderkey, l_linenumber
"""


def tpch(scale: float):
    """Denormalised TPC-H: one record for each line item, in an order that has nothing to do with any key."""

    def records(_sets: Path, scratch: Path) -> str:
        generator = Path(sys.executable).parent / "tpchgen-cli"
        tables = "lineitem,orders,customer,part,supplier,nation"
        command = [generator, "parquet", "--scale-factor", str(scale), "--tables", tables, "--output-dir", scratch]
        subprocess.run([*command, "--num-threads", "2", "--quiet"], check=True)
        return TPCH.format(raw=scratch, seed=SEED)

    return records


def further(base: str, rows: int):
    """Records that come after the set `base`: its own again, one in ten of them with an order, a customer, a part and
    a supplier that are new. The line items are new in any case, because they have no key."""

    def records(sets: Path, _scratch: Path) -> str:
        return f"""
            SELECT * EXCLUDE (filename, file_row_number, chance, new)
                   REPLACE (o_orderkey + new * 1_000_000_000 AS o_orderkey,
                            c_custkey + new * 1_000_000_000 AS c_custkey,
                            CASE new WHEN 1 THEN p_name || ' (new)' ELSE p_name END AS p_name,
                            s_suppkey + new * 1_000_000_000 AS s_suppkey)
            FROM (SELECT *, hash(parse_filename(filename), file_row_number, {SEED}) AS chance,
                         (chance % 10 = 0)::BIGINT AS new
                  FROM read_parquet('{sets}/{base}/*.parquet', filename = true, file_row_number = true))
            ORDER BY hash(chance), chance LIMIT {rows}
        """

    return records


def wide(rows: int):
    """Two keys, and a hundred columns of five kinds that only pass through."""

    def chance(column: int) -> str:
        return f"hash(record, {column}, {SEED})"

    kinds = [
        "({0} % 1_000_000_007) / 1024.0::DOUBLE",
        "({0} % 5_000_000)::BIGINT",
        "({0} % 200)::INTEGER",
        "'value ' || {0} % 500",
        "DATE '2020-01-01' + ({0} % 2000)::INTEGER",
    ]
    columns = ", ".join(f"{kinds[number % 5].format(chance(number))} AS v{number:03}" for number in range(100))

    def records(_sets: Path, _scratch: Path) -> str:
        return f"""
            SELECT 'C-' || lpad(({chance(1001)} % 100_000)::VARCHAR, 9, '0') AS customer_code,
                   ({chance(1002)} % 20_000)::BIGINT AS product_no, {columns}
            FROM range({rows}) AS records(record) ORDER BY record
        """

    return records


def strings(rows: int, distinct: int):
    """A key of 20 to 40 bytes that nearly every record has for itself: `distinct` of them in `rows` records."""

    def records(_sets: Path, _scratch: Path) -> str:
        return f"""
            SELECT substr(md5(thing || '/{SEED}') || md5(thing || '|{SEED}'), 1, 20 + (hash(thing) % 21)::INTEGER)
                       AS code,
                   'kind ' || hash(thing, 1) % 1000 AS kind,
                   (hash(record, 2) % 10_000)::INTEGER AS amount,
                   DATE '2024-01-01' + (hash(record, 3) % 365)::INTEGER AS day
            FROM (SELECT record, CASE WHEN record < {distinct} THEN record
                                      ELSE (hash(record, {SEED}) % {distinct})::BIGINT END AS thing
                  FROM range({rows}) AS records(record))
            ORDER BY hash(record, {SEED + 1}), record
        """

    return records


RECIPES = {
    "tpch-2m": Recipe(1, 4, tpch(1 / 3)),
    "tpch-24m": Recipe(1, 16, tpch(4)),
    "further-200k": Recipe(1, 1, further("tpch-2m", 200_000)),
    "wide-1m": Recipe(1, 4, wide(1_000_000)),
    "strings-12m": Recipe(1, 8, strings(12_000_000, 10_000_000)),
    # The same at a hundredth of the size or less, for checking the harness itself.
    "quick-tpch-2m": Recipe(1, 4, tpch(1 / 120)),
    "quick-tpch-24m": Recipe(1, 16, tpch(1 / 60)),
    "quick-further-200k": Recipe(1, 1, further("quick-tpch-2m", 5_000)),
    "quick-wide-1m": Recipe(1, 4, wide(20_000)),
    "quick-strings-12m": Recipe(1, 8, strings(60_000, 50_000)),
}
#: What a set is made from.
NEEDS = {"further-200k": "tpch-2m", "quick-further-200k": "quick-tpch-2m"}


def write(connection, query: str, files: int, folder: Path):
    """Writes a query's records to `files` files of the same size, as pyarrow writes them by itself: dictionaries until
    they outgrow their page. Decimals are integers, as most writers have them."""
    connection.execute(f"CREATE TABLE records AS {query}")
    rows = connection.execute("SELECT count(*) FROM records").fetchall()[0][0]
    per_file = -(-rows // files)
    for number in range(files):
        first = number * per_file
        chosen = f"rowid >= {first} AND rowid < {first + per_file}"
        part = connection.sql(f"SELECT * FROM records WHERE {chosen} ORDER BY rowid").to_arrow_table()
        pyarrow.parquet.write_table(
            part, folder / f"part-{number:02}.parquet", row_group_size=ROW_GROUP, compression="snappy",
            store_decimal_as_integer=True,
        )
    return rows


def make(sets: Path, name: str):
    """Makes one set, and what it is made from, unless it is there."""
    if name in NEEDS:
        make(sets, NEEDS[name])
    recipe = RECIPES[name]
    stamp = f"{name}, version {recipe.version}, duckdb {duckdb.__version__}, pyarrow {pyarrow.__version__}\n"
    folder = sets / name
    if (folder / STAMP).is_file() and (folder / STAMP).read_text() == stamp:
        return
    print(f"making {name} ...", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    scratch = sets / f"{name}.making"
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "set").mkdir(parents=True)
    try:
        with duckdb.connect(str(scratch / "records.duckdb")) as connection:
            connection.execute(f"SET memory_limit = '{MEMORY}'")
            connection.execute(f"SET temp_directory = '{scratch}'")
            query = recipe.records(sets, scratch)
            rows = write(connection, query, recipe.files, scratch / "set")
        (scratch / "set" / STAMP).write_text(stamp)
        (scratch / "set").rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    size = sum(path.stat().st_size for path in folder.glob("*.parquet"))
    print(f"{name}: {rows:,} records, {recipe.files} files, {size / 1e6:.0f} MB", file=sys.stderr)


if __name__ == "__main__":
    for wanted in sys.argv[2:]:
        make(Path(sys.argv[1]), wanted)
