"""The demo's job done by other tools, each the best way we found: same tables, same IDs, same compression.

Called by `run`, one process for each measurement: peers.py TOOL FOLDER.
"""

import sys
from pathlib import Path

#: Table -> key, ID, references as (table, ID, key), columns. The last one has no key.
TABLES = {
    "customers": ("customer_email", "customer_id", [], ["customer_name", "city", "country", "segment"]),
    "products": ("sku", "product_id", [], ["gtin", "product", "category", "brand", "list_price"]),
    "orders": ("order_no", "order_id", ["customers"], ["ordered_at", "order_date", "status", "store"]),
    "order_lines": (None, "line_id", ["orders", "products"], ["quantity", "unit_price", "discount_percent", "line_total"]),
}


def sources(folder: Path):
    return sorted(str(path) for path in (folder / "data").glob("*.parquet"))


def run_duckdb(folder: Path):
    """First positions by `min`, then a semi-join on the position: faster than `any_value` or a window."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET preserve_insertion_order = true")
    parts = " UNION ALL ".join(
        f"SELECT {number}::UBIGINT << 40 | file_row_number AS place, * EXCLUDE (file_row_number) "
        f"FROM read_parquet('{path}', file_row_number = true)"
        for number, path in enumerate(sources(folder))
    )
    connection.execute(f"CREATE VIEW source AS {parts}")
    for table, (key, identifier, references, columns) in TABLES.items():
        joins = " ".join(
            f"LEFT JOIN map_{name} AS {name} ON {name}.{TABLES[name][0]} = s.{TABLES[name][0]}" for name in references
        )
        ids = [f"{name}.{TABLES[name][1]}" for name in references]
        if key:
            connection.execute(
                f"CREATE TABLE map_{table} AS SELECT {key}, place, row_number() OVER (ORDER BY place) AS {identifier} "
                f"FROM (SELECT {key}, min(place) AS place FROM source WHERE {key} IS NOT NULL GROUP BY {key})"
            )
            selected = ", ".join([f"own.{identifier}", f"own.{key}", *ids, *(f"s.{column}" for column in columns)])
            query = f"SELECT {selected} FROM source AS s JOIN map_{table} AS own ON own.place = s.place {joins}"
        else:
            number = f"row_number() OVER (ORDER BY s.place) AS {identifier}"
            selected = ", ".join([number, *ids, *(f"s.{column}" for column in columns)])
            query = f"SELECT {selected} FROM source AS s {joins}"
        write = "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
        connection.execute(f"COPY ({query} ORDER BY {identifier}) TO '{folder}/{table}.parquet' {write}")


def run_polars(folder: Path):
    """`unique` with kept order, then joins."""
    import polars as pl

    source = pl.concat([pl.scan_parquet(path) for path in sources(folder)]).collect()
    maps = {}
    for table, (key, identifier, references, columns) in TABLES.items():
        keys = [TABLES[name][0] for name in references]
        frame = source.select([*([key] if key else []), *keys, *columns])
        if key:
            frame = frame.filter(pl.col(key).is_not_null()).unique(subset=key, keep="first", maintain_order=True)
        frame = frame.with_row_index(identifier, offset=1).with_columns(pl.col(identifier).cast(pl.Int64))
        for name in references:
            frame = frame.join(maps[name], on=TABLES[name][0], how="left", maintain_order="left")
        ids = [TABLES[name][1] for name in references]
        frame.select([identifier, *([key] if key else []), *ids, *columns]).write_parquet(
            folder / f"{table}.parquet", compression="zstd", compression_level=1
        )
        if key:
            maps[table] = frame.select([key, identifier])


if __name__ == "__main__":
    {"duckdb": run_duckdb, "polars": run_polars}[sys.argv[1]](Path(sys.argv[2]))
