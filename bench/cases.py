"""The cases: what is ingested in each, and what it is there to show.

Everything here is a description; nothing here runs anything. A case must never ask for something that Seriatim alone
can do well: its tables are what any of the tools would be asked for.
"""

from dataclasses import dataclass
from enum import Enum, auto

from job import Job, Table, Transform


class Kind(Enum):
    #: A first run on an empty state.
    FIRST = auto()
    #: A run on a copy of a state that has ingested all sets but the last.
    LATER = auto()
    #: A first run, once as usual and once with little memory; the files must be the same.
    MEMORY = auto()
    #: A first run, once on local files and once on the same files in Azurite; what is published must be the same.
    OBJECTS = auto()


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    #: The sets of records, in order. `demo` is what `seriatim demo` makes, the others are made by `recipes.py`.
    sets: list[str]
    job: Job
    #: How often each variant runs, unless the command line says.
    repeat: int
    kind: Kind = Kind.FIRST
    #: Whether the variant without a journal runs, too: what it costs is shown.
    journal: bool = False


#: Five tables of things and the line items, from 25 columns. The part's key is a string of about 40 bytes.
TPCH = [
    Table("nations", "n_name", "nation_id", [], ["n_regionkey"]),
    Table("suppliers", "s_suppkey", "supplier_id", ["nations"], ["s_name", "s_acctbal"]),
    Table("customers", "c_custkey", "customer_id", [], ["c_name", "c_mktsegment", "c_acctbal"]),
    Table("parts", "p_name", "part_id", [], ["p_brand", "p_type"]),
    Table(
        "orders", "o_orderkey", "order_id", ["customers"],
        ["o_orderstatus", "o_totalprice", "o_orderdate", "o_orderpriority"],
    ),
    Table(
        "line_items", None, "line_id", ["orders", "customers", "parts", "suppliers", "nations"],
        ["l_quantity", "l_extendedprice", "l_discount", "l_tax", "l_returnflag", "l_linestatus", "l_shipdate",
         "l_shipmode"],
    ),
]

#: A filter that drops one record in twenty, a computed key, computed attributes and measures. Money is computed in
#: doubles, because tools differ in the types that products of decimals have, and rounded to four places, because they
#: differ in where a half goes.
TRANSFORM = Transform(
    select=[
        "o_orderkey", "o_orderdate", "date_part('year', o_orderdate) AS order_year",
        "lower(o_orderpriority) AS priority",
        "c_custkey", "upper(c_name) AS customer_name", "c_mktsegment",
        "upper(p_name) AS part_name", "concat(p_brand, ' / ', p_type) AS kind",
        "s_suppkey", "s_name",
        "l_quantity", "l_shipdate", "date_part('month', l_shipdate) AS ship_month", "l_shipmode",
        "round(CAST(l_extendedprice AS DOUBLE) * (1 - CAST(l_discount AS DOUBLE)), 4) AS revenue",
    ],
    where="l_quantity > 2 AND o_totalprice > 16000",
)
TRANSFORMED = [
    Table("suppliers", "s_suppkey", "supplier_id", [], ["s_name"]),
    Table("customers", "c_custkey", "customer_id", [], ["customer_name", "c_mktsegment"]),
    Table("parts", "part_name", "part_id", [], ["kind"]),
    Table("orders", "o_orderkey", "order_id", ["customers"], ["o_orderdate", "order_year", "priority"]),
    Table(
        "line_items", None, "line_id", ["orders", "parts", "suppliers"],
        ["l_quantity", "revenue", "l_shipdate", "ship_month", "l_shipmode"],
    ),
]

WIDE = [
    Table("customers", "customer_code", "customer_id", [], []),
    Table("products", "product_no", "product_id", [], []),
    Table("facts", None, "fact_id", ["customers", "products"], [f"v{number:03}" for number in range(100)]),
]

STRINGS = [
    Table("things", "code", "thing_id", [], ["kind"]),
    Table("events", None, "event_id", ["things"], ["amount", "day"]),
]

#: As the demo's own pipeline has them.
DEMO = [
    Table("customers", "customer_email", "customer_id", [], ["customer_name", "city", "country", "segment"]),
    Table("products", "sku", "product_id", [], ["gtin", "product", "category", "brand", "list_price"]),
    Table("orders", "order_no", "order_id", ["customers"], ["ordered_at", "order_date", "status", "store"]),
    Table(
        "order_lines", None, "line_id", ["orders", "products"],
        ["quantity", "unit_price", "discount_percent", "line_total"],
    ),
]

CASES = [
    Case("2m", "2 million records, 25 columns", ["tpch-2m"], Job("tpch", TPCH), 7),
    Case("24m", "24 million records, 25 columns", ["tpch-24m"], Job("tpch", TPCH), 3),
    Case(
        "incremental", "200,000 further records, one in ten with new keys", ["tpch-2m", "further-200k"],
        Job("tpch", TPCH), 7, Kind.LATER,
    ),
    Case("transform", "2 million records, filtered and computed", ["tpch-2m"], Job("sales", TRANSFORMED,
         transform=TRANSFORM), 5),
    Case("wide", "1 million records, 100 columns that pass through", ["wide-1m"], Job("wide", WIDE), 5),
    Case("strings", "12 million records, 10 million distinct strings", ["strings-12m"], Job("strings", STRINGS), 3),
    Case("demo", "the demo's 2 million records", ["demo"], Job("retail", DEMO, "zstd(1)"), 7, journal=True),
    Case("azurite", "2 million records in object storage", ["tpch-2m"], Job("tpch", TPCH), 7, Kind.OBJECTS),
    Case("memory", "24 million records with 512 MiB", ["tpch-24m"], Job("tpch", TPCH), 1, Kind.MEMORY),
]
