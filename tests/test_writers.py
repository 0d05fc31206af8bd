"""Files of other writers: the job is right on what pyarrow, DuckDB, Polars, Spark and the Rust writer make, alone and
mixed.

The results are compared with the same job done by DuckDB's SQL, which shares nothing with the program, or by a plain
loop over the records.
"""

import datetime
import decimal
import itertools
import math
import struct

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import assert_verifies, scale

SCHEMA = pa.schema(
    [
        ("order_no", pa.int64()),
        ("store", pa.int32()),
        ("sku", pa.string()),
        ("price", pa.decimal128(9, 2)),
        ("weight", pa.decimal128(20, 6)),
        ("day", pa.date32()),
        ("sold_at", pa.timestamp("us")),
        ("seen_at", pa.timestamp("us", tz="UTC")),
        ("gift", pa.bool_()),
        ("share", pa.float64()),
        ("remark", pa.string()),
    ]
)

PIPELINE = """\
version: 1
name: writers
source: {files: data/*.parquet}
tables:
  days: {key: day, id: day_id}
  stores: {key: [store, day], id: {column: store_day_id, start: 100, step: 10}, references: [days]}
  prices: {key: price, id: price_id, columns: [weight]}
  moments: {key: [sold_at, seen_at], id: moment_id}
  articles: {key: sku, id: article_id, references: [prices], columns: [gift, remark]}
  orders: {key: order_no, id: order_id, references: [stores, moments], columns: [share]}
  lines: {id: line_id, references: [orders, articles], columns: [price, weight, share, remark, sold_at, seen_at]}
output: {path: out}
"""

#: Table -> key, ID column, first ID, step, references, columns: the pipeline once more, for the SQL.
TABLES = {
    "days": (["day"], "day_id", 1, 1, [], []),
    "stores": (["store", "day"], "store_day_id", 100, 10, ["days"], []),
    "prices": (["price"], "price_id", 1, 1, [], ["weight"]),
    "moments": (["sold_at", "seen_at"], "moment_id", 1, 1, [], []),
    "articles": (["sku"], "article_id", 1, 1, ["prices"], ["gift", "remark"]),
    "orders": (["order_no"], "order_id", 1, 1, ["stores", "moments"], ["share"]),
    "lines": ([], "line_id", 1, 1, ["orders", "articles"], ["price", "weight", "share", "remark", "sold_at", "seen_at"]),
}


def make_table(rng, rows: int) -> pa.Table:
    """Records with keys of every type, few and many distinct ones, and nulls in some."""

    def maybe(value, percent):
        return None if rng.random() * 100 < percent else value

    moment = datetime.datetime(2024, 2, 28, 23, 0, 0)
    orders = max(rows // 4, 1)
    record = {
        "order_no": lambda: rng.randrange(-orders, orders) * 10_000_000_019,
        "store": lambda: maybe(rng.randrange(30), 3),
        "sku": lambda: maybe(rng.choice(["", "ä", "日本", "sku-"]) + str(rng.randrange(500)), 2),
        "price": lambda: maybe(decimal.Decimal(rng.randrange(-999_999_999, 999_999_999)) / 100, 1),
        "weight": lambda: maybe(decimal.Decimal(rng.randrange(10**15)) / 1_000_000, 10),
        "day": lambda: maybe(datetime.date(1969, 12, 1) + datetime.timedelta(days=rng.randrange(60)), 1),
        "sold_at": lambda: maybe(moment + datetime.timedelta(microseconds=rng.randrange(2000) * 333), 1),
        "seen_at": lambda: maybe(
            moment.replace(tzinfo=datetime.timezone.utc) + datetime.timedelta(seconds=rng.randrange(5)), 1
        ),
        "gift": lambda: maybe(rng.random() < 0.3, 5),
        "share": lambda: maybe(rng.random(), 5),
        "remark": lambda: maybe(rng.choice(["", "fragile", "a longer remark, with a comma"]), 60),
    }
    columns = {name: [draw() for _ in range(rows)] for name, draw in record.items()}
    return pa.table(columns, schema=SCHEMA)


def write_pyarrow(table, path, compression, dictionary, row_group, version="1.0"):
    pq.write_table(
        table,
        path,
        compression=compression,
        use_dictionary=dictionary,
        row_group_size=row_group,
        data_page_version=version,
        write_page_checksum=True,
        write_page_index=dictionary,
    )


def write_duckdb(table, path, compression, dictionary, row_group, version="1.0"):
    compression = {"none": "uncompressed"}.get(compression, compression)
    # A dictionary of at most one byte is no dictionary.
    limit = "" if dictionary else ", dictionary_size_limit 1, string_dictionary_page_size_limit 1"
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.execute("SET preserve_insertion_order = true")
        connection.register("records", table)
        connection.execute(
            f"COPY records TO '{path}' (FORMAT parquet, COMPRESSION {compression}, ROW_GROUP_SIZE {row_group}, "
            f"PARQUET_VERSION V{version[0]}{limit})"
        )


def has_dictionary(path):
    group = pq.read_metadata(path).row_group(0)
    return any("DICTIONARY" in name for at in range(group.num_columns) for name in group.column(at).encodings)


WRITERS = {"pyarrow": write_pyarrow, "duckdb": write_duckdb}
#: Records and rows in a row group: small groups are joined to chunks, a large one is cut into several.
SIZES = {"small": (3_000, 700), "large": (int(150_000 * min(scale(), 10)), 1_000_000)}


def expected(connection, files):
    """The tables that the job must give, as SQL over the source in its order."""
    parts = [
        f"SELECT {number} AS file, file_row_number AS row, * EXCLUDE (file_row_number) "
        f"FROM read_parquet('{path}', file_row_number = true)"
        for number, path in enumerate(sorted(files, key=lambda path: str(path).encode()))
    ]
    connection.execute(f"CREATE TABLE source AS {' UNION ALL BY NAME '.join(parts)}")
    for table, (key, identifier, start, step, references, columns) in TABLES.items():
        if key:
            present = " AND ".join(f"{column} IS NOT NULL" for column in key)
            firsts = (
                f"SELECT * FROM source WHERE {present} "
                f"QUALIFY row_number() OVER (PARTITION BY {', '.join(key)} ORDER BY file, row) = 1"
            )
        else:
            firsts = "SELECT * FROM source"
        joins, selected = [], [f"{start} + {step} * (row_number() OVER (ORDER BY s.file, s.row) - 1) AS {identifier}"]
        selected += [f"s.{column} AS {column}" for column in key]
        for reference in references:
            on = " AND ".join(f"{reference}.{column} = s.{column}" for column in TABLES[reference][0])
            joins.append(f"LEFT JOIN expected_{reference} AS {reference} ON {on}")
            selected.append(f"{reference}.{TABLES[reference][1]} AS {TABLES[reference][1]}")
        selected += [f"s.{column} AS {column}" for column in columns]
        connection.execute(
            f"CREATE TABLE expected_{table} AS SELECT {', '.join(selected)} FROM ({firsts}) AS s {' '.join(joins)}"
        )


def only_in_first(connection, one, other):
    """Some rows of a query that another one does not give, as text."""
    query = f"SELECT COLUMNS(*)::VARCHAR FROM (({one}) EXCEPT ALL ({other})) LIMIT 3"
    return connection.execute(query).fetchall()


def compare(folder, files):
    """All tables: the same rows, and in the files in the order of the IDs."""
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        expected(connection, files)
        for table, (_, identifier, _, step, _, _) in TABLES.items():
            found = f"read_parquet('{folder / 'out' / table}/*.parquet', file_row_number = true, filename = true)"
            wanted = [row[0] for row in connection.execute(f"DESCRIBE expected_{table}").fetchall()]
            names = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {found}").fetchall()]
            assert names[: len(wanted)] == wanted, table
            columns = ", ".join(wanted)
            for one, other in itertools.permutations([f"SELECT {columns} FROM {found}", f"FROM expected_{table}"]):
                difference = only_in_first(connection, one, other)
                assert difference == [], f"{table}: in `{one}` and not in `{other}`"
            disorder = connection.execute(
                f"SELECT {identifier} FROM (SELECT {identifier}, lag({identifier}) OVER "
                f"(ORDER BY filename, file_row_number) AS before FROM {found}) WHERE {identifier} <> before + {step}"
            ).fetchall()
            assert disorder == [], f"{table}: not in the order of the IDs"


def read_back(folder):
    """Other readers than DuckDB find the same rows, in the same order."""
    for table, (_, identifier, *_) in TABLES.items():
        files = sorted((folder / "out" / table).glob("*.parquet"))
        if not files:
            continue
        arrow = pa.concat_tables(pq.read_table(path, partitioning=None) for path in files)
        polars = pl.concat([pl.read_parquet(path) for path in files])
        assert arrow.num_rows == polars.height, table
        for name in arrow.column_names:
            as_read = polars.get_column(name).to_list()
            assert arrow.column(name).to_pylist() == as_read, f"{table}.{name}"
        assert arrow.column(identifier).null_count == 0, table


def run(program, folder, paths="auto", text=PIPELINE):
    pipeline = folder / "pipeline.yaml"
    pipeline.write_text(text)
    report = program.json("run", pipeline, "--paths", paths, cwd=folder)["runs"][-1]
    assert report["status"] == "done", report
    assert_verifies(program, pipeline)
    return report


#: Every writer with every setting on small files, and with the usual ones on large files.
SETTINGS = [
    (writer, compression, dictionary, size)
    for writer in WRITERS
    for compression in ["snappy", "zstd", "none"]
    for dictionary in [True, False]
    for size in SIZES
    if size == "small" or (compression, dictionary) in [("snappy", True), ("zstd", False)]
]


@pytest.mark.parametrize(("writer", "compression", "dictionary", "size"), SETTINGS)
def test_files_of_one_writer(program, tmp_path, rng, writer, compression, dictionary, size):
    rows, row_group = SIZES[size]
    (tmp_path / "data").mkdir()
    paths = []
    for name, count in [("b", rows), ("a", rows // 3), ("c", 0)]:
        paths.append(tmp_path / "data" / f"{name}.parquet")
        version = rng.choice(["1.0", "2.0"])
        WRITERS[writer](make_table(rng, count), paths[-1], compression, dictionary, row_group, version)
    assert has_dictionary(paths[0]) == dictionary, "the file is what this test is about"
    report = run(program, tmp_path, rng.choice(["auto", "pages", "pages", "general"]))
    assert (report["files"], report["records"]) == (3, rows + rows // 3)
    compare(tmp_path, paths)


def required(table):
    """The same columns, those without nulls as columns that cannot have any."""
    full = {name for name in table.column_names if table.column(name).null_count == 0}
    return table.cast(pa.schema([field.with_nullable(field.name not in full) for field in table.schema]))


#: How pyarrow can be made to write pages that are rare, or hard.
HARD = {
    "dictionaries that end in mid-chunk": {"dictionary_pagesize_limit": 600, "data_page_size": 512},
    "row groups of one row": {"row_group_size": 1},
    "pages of few rows": {"data_page_size": 64, "write_batch_size": 7},
    "other encodings": {"use_dictionary": False, "column_encoding": {
        "order_no": "DELTA_BINARY_PACKED", "sku": "DELTA_BYTE_ARRAY", "remark": "DELTA_LENGTH_BYTE_ARRAY",
        "share": "BYTE_STREAM_SPLIT",
    }},
}


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("settings", HARD.values(), ids=HARD)
def test_pages_of_every_kind(program, tmp_path, rng, settings, version):
    """Page by page or through Arrow, with columns that can have nulls and with columns that cannot."""
    (tmp_path / "data").mkdir()
    paths = []
    rows = 60 if settings.get("row_group_size") == 1 else 4_000
    tables = [make_table(rng, rows), required(make_table(rng, rows).drop_null()), make_table(rng, rows)]
    # A column chunk without any value has an empty dictionary, or none.
    at = tables[2].schema.get_field_index("sku")
    tables[2] = tables[2].set_column(at, "sku", pa.nulls(rows, pa.string()))
    for part, table in enumerate(tables):
        paths.append(tmp_path / "data" / f"part-{part}.parquet")
        compression = rng.choice(["snappy", "zstd", "lz4", "gzip", "brotli", "none"])
        pq.write_table(
            table, paths[-1], compression=compression, data_page_version=version, write_page_checksum=True, **settings
        )
    run(program, tmp_path, "pages")
    compare(tmp_path, paths)
    read_back(tmp_path)


def test_files_of_polars(program, tmp_path, rng):
    (tmp_path / "data").mkdir()
    paths = []
    for part, compression in enumerate(["snappy", "zstd", "uncompressed"]):
        paths.append(tmp_path / "data" / f"part-{part}.parquet")
        table = pl.from_arrow(make_table(rng, 3_000))
        table.write_parquet(paths[-1], compression=compression, row_group_size=rng.choice([300, 5_000]))
    run(program, tmp_path, "pages")
    compare(tmp_path, paths)
    read_back(tmp_path)


def test_a_wrong_page_checksum_is_told_and_nothing_is_published(program, tmp_path, rng):
    """Also where the page would only be copied."""
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "a.parquet"
    write_pyarrow(make_table(rng, 20_000), path, "none", False, 20_000)
    column = pq.read_metadata(path).row_group(0).column(SCHEMA.get_field_index("share"))
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 1] ^= 1
    path.write_bytes(content)
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(PIPELINE)
    for paths in ["pages", "general"]:
        failed = program.call("run", pipeline, "--paths", paths, cwd=tmp_path, code=1)
        assert "a.parquet" in failed.stderr and "damaged" in failed.stderr, failed.stderr
        assert not list((tmp_path / "out").rglob("*.parquet"))


def test_files_of_several_writers_in_one_source(program, tmp_path, rng):
    (tmp_path / "data").mkdir()
    paths = []
    for part in range(8):
        paths.append(tmp_path / "data" / f"part-{part}.parquet")
        write = WRITERS[rng.choice(sorted(WRITERS))] if part > 1 else WRITERS[sorted(WRITERS)[part]]
        compression = rng.choice(["snappy", "zstd", "none"])
        write(make_table(rng, rng.randrange(2000)), paths[-1], compression, rng.random() < 0.5, rng.choice([100, 5000]))
    run(program, tmp_path)
    compare(tmp_path, paths)


def test_strings_in_all_forms_that_arrow_has_are_one_type(program, tmp_path, rng):
    """pyarrow notes in the file whether a string was large or a dictionary; to Parquet it is one type."""
    (tmp_path / "data").mkdir()
    paths = []
    forms = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()]
    for part, form in enumerate(forms):
        table = make_table(rng, 500)
        for name in ["sku", "remark"]:
            at = table.schema.get_field_index(name)
            table = table.set_column(at, pa.field(name, form), table.column(name).cast(form))
        paths.append(tmp_path / "data" / f"part-{part}.parquet")
        pq.write_table(table, paths[-1])
    run(program, tmp_path)
    compare(tmp_path, paths)


def test_files_in_several_runs(program, tmp_path, rng):
    (tmp_path / "data").mkdir()
    paths = []
    for part in range(3):
        # By name each file comes after those of the runs before, so the order over all runs is the order of names.
        paths.append(tmp_path / "data" / f"part-{part}.parquet")
        WRITERS[["pyarrow", "duckdb"][part % 2]](make_table(rng, 1500), paths[-1], "snappy", True, 400)
        report = run(program, tmp_path)
        assert (report["files"], report["files_known"]) == (1, part)
        compare(tmp_path, paths)


DEMO = {
    "customers": ("customer_email", "customer_id", ["customer_name", "city", "country", "segment"]),
    "products": ("sku", "product_id", ["gtin", "product", "category", "brand", "list_price"]),
    "orders": ("order_no", "order_id", ["ordered_at", "order_date", "status", "store"]),
}


def test_files_of_the_rust_writer(program, tmp_path):
    """The demo's own files, by its own pipeline."""
    report = program.json("demo", "--rows", int(100_000 * scale()), "--folder", tmp_path, cwd=tmp_path)
    assert report["verify"]["ok"]
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.execute(
            "CREATE TABLE source AS SELECT * FROM "
            f"read_parquet('{tmp_path}/data/*.parquet', filename = true, file_row_number = true)"
        )
        for table, (key, identifier, columns) in DEMO.items():
            connection.execute(
                f"CREATE TABLE numbered_{table} AS SELECT row_number() OVER (ORDER BY filename, file_row_number) "
                f"AS {identifier}, {key}, {', '.join(columns)} FROM (FROM source WHERE {key} IS NOT NULL QUALIFY "
                f"row_number() OVER (PARTITION BY {key} ORDER BY filename, file_row_number) = 1)"
            )
            selected = f"{identifier}, {key}, {', '.join(columns)}"
            found = f"SELECT {selected} FROM read_parquet('{tmp_path}/out/{table}/*.parquet')"
            for one, other in itertools.permutations([found, f"SELECT {selected} FROM numbered_{table}"]):
                assert only_in_first(connection, one, other) == [], table
        lines = """
            SELECT row_number() OVER (ORDER BY filename, file_row_number) AS line_id, order_id, product_id,
                   quantity, unit_price, discount_percent, line_total
            FROM source LEFT JOIN numbered_orders USING (order_no) LEFT JOIN numbered_products USING (sku)
        """
        found = f"FROM read_parquet('{tmp_path}/out/order_lines/*.parquet')"
        for one, other in itertools.permutations([found, lines]):
            assert only_in_first(connection, one, other) == []


def of_bits(bits: int) -> float:
    """The number with these 64 bits: not-a-numbers are not all the same."""
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


FLOATS = [0.0, -0.0, math.nan, of_bits(0xFFF8_0000_0000_0000), math.inf, -math.inf, 0.5, -1.25, 65504.0]
MOMENT = datetime.datetime(1969, 12, 31)

#: Column -> its type and the value that belongs to a number: keys of every physical type that Parquet has, and of
#: every way in which decimals are kept. Several numbers may have one value, as with booleans and floats.
KEYS = {
    "flag": (pa.bool_(), lambda n: n % 3 == 0),
    "int32": (pa.int32(), lambda n: (n - 20) * 50_000_017),
    "int64": (pa.int64(), lambda n: (n - 20) * 200_000_000_000_000_003),
    "int96": (pa.timestamp("ns"), lambda n: MOMENT + datetime.timedelta(hours=7 * n, microseconds=n)),
    "float": (pa.float32(), lambda n: FLOATS[n] if n < len(FLOATS) else n / 8),
    "double": (pa.float64(), lambda n: FLOATS[n] if n < len(FLOATS) else n / 7),
    "text": (pa.string(), lambda n: ["", "ä", "a", "日本", "a longer text, and a comma"][n % 5] + "x" * (n // 5)),
    "bytes": (pa.binary(), lambda n: [b"", b"\0", b"\xff\xfe", b"\0\0"][n % 4] + b"\xc3" * (n // 4)),
    "fixed": (pa.binary(12), lambda n: bytes([n % 7, 255 - n]) * 6),
    "money32": (pa.decimal128(9, 2), lambda n: decimal.Decimal((n - 20) * 4_999_999).scaleb(-2)),
    "money64": (pa.decimal128(18, 4), lambda n: decimal.Decimal((n - 20) * 49_999_999_999_999_999).scaleb(-4)),
    "wide": (pa.decimal128(38, 10), lambda n: decimal.Decimal((n - 20) * 10**35 + n).scaleb(-10)),
    "wider": (pa.decimal256(60, 6), lambda n: decimal.Decimal((n - 20) * 10**57 + n).scaleb(-6)),
}
PHYSICAL = {"BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"}


def key_table(rng, rows: int, null_percent: int) -> pa.Table:
    columns, fields = [], []
    for name, (kind, value) in KEYS.items():
        numbers = [None if rng.random() * 100 < null_percent else rng.randrange(40) for _ in range(rows)]
        columns.append(pa.array([None if n is None else value(n) for n in numbers], kind))
        fields.append(pa.field(name, kind, nullable=null_percent > 0))
    return pa.table(columns, schema=pa.schema(fields))


def plain(column) -> list:
    """The values of a column; timestamps as nanoseconds, which Python's own have not."""
    is_moment = pa.types.is_timestamp(column.type)
    return (column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64()) if is_moment else column).to_pylist()


def as_key(value):
    """One zero (to Python they are equal) and one not-a-number."""
    return "not a number" if isinstance(value, float) and math.isnan(value) else value


def read_table(folder):
    return pa.concat_tables(pq.read_table(path, partitioning=None) for path in sorted(folder.glob("*.parquet")))


def check_keys(program, folder, batches, columns):
    """Ingests files batch by batch, a table for each column: IDs follow first appearance, either way of reading."""
    lines = f"  lines: {{id: line_id, references: [{', '.join(f't_{name}' for name in columns)}]}}\n"
    tables = "".join(f"  t_{name}: {{key: {name}, id: {name}_id}}\n" for name in columns) + lines
    text = f"version: 1\nname: keys\nsource: {{files: data/*.parquet}}\ntables:\n{tables}output: {{path: out}}\n"
    published = []
    for paths in ["pages", "general"]:
        place = folder / paths
        (place / "data").mkdir(parents=True)
        files = []
        for batch in batches:
            for file in batch:
                files.append(place / "data" / f"part-{len(files):03}.parquet")
                files[-1].symlink_to(file)
            run(program, place, paths, text)
        source = {name: [v for file in files for v in plain(pq.read_table(file).column(name))] for name in columns}
        lines, rows = read_table(place / "out" / "lines"), {}
        assert lines.column("line_id").to_pylist() == list(range(1, len(next(iter(source.values()))) + 1))
        for name, values in source.items():
            ids = {}
            expected = [None if v is None else ids.setdefault(as_key(v), len(ids) + 1) for v in values]
            found = read_table(place / "out" / f"t_{name}")
            assert found.column(f"{name}_id").to_pylist() == list(ids.values()), f"{name}, {paths}"
            rows[name] = plain(found.column(name))
            assert [as_key(value) for value in rows[name]] == list(ids), f"{name}, {paths}"
            assert lines.column(f"{name}_id").to_pylist() == expected, f"{name}, {paths}: references"
        # Written out, so that zeros of either sign differ.
        published.append({name: [repr(value) for value in values] for name, values in rows.items()})
    assert published[0] == published[1], "pages and the general way"


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("null_percent", [0, 15], ids=["required", "nullable"])
@pytest.mark.parametrize("dictionary", [True, False], ids=["dictionary", "plain"])
def test_keys_of_every_physical_type(program, tmp_path, rng, dictionary, null_percent, version):
    batches = []
    for part, rows in enumerate([500, 1, 300]):
        batches.append([tmp_path / f"{part}.parquet"])
        pq.write_table(
            key_table(rng, rows, null_percent),
            batches[-1][0],
            use_dictionary=dictionary,
            data_page_version=version,
            use_deprecated_int96_timestamps=True,
            store_decimal_as_integer=True,
            row_group_size=130,
            data_page_size=256,
            write_batch_size=20,
        )
    columns = pq.read_metadata(batches[0][0]).row_group(0)
    assert {columns.column(at).physical_type for at in range(columns.num_columns)} == PHYSICAL
    assert has_dictionary(batches[0][0]) == dictionary, "the file is what this test is about"
    check_keys(program, tmp_path, [batches[0] + batches[1], batches[2]], KEYS)


def test_files_of_spark(program, tmp_path, rng):
    """Timestamps as INT96 and as INT64, decimals as integers and as bytes, either version of pages."""
    sql = pytest.importorskip("pyspark.sql", reason="Spark is not installed")
    columns = [name for name in KEYS if name != "wider"]
    table = key_table(rng, 400, 10).select(columns)
    pq.write_table(table, tmp_path / "made.parquet", use_deprecated_int96_timestamps=True)
    spark = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        for moments, legacy, dictionary, version in [
            ("INT96", "true", "true", "PARQUET_1_0"),
            ("TIMESTAMP_MICROS", "false", "false", "PARQUET_2_0"),
        ]:
            spark.conf.set("spark.sql.session.timeZone", "UTC")
            spark.conf.set("spark.sql.parquet.outputTimestampType", moments)
            spark.conf.set("spark.sql.parquet.writeLegacyFormat", legacy)
            folder = tmp_path / moments
            frame = spark.read.parquet(str(tmp_path / "made.parquet")).coalesce(1).write
            for name, value in {"enable.dictionary": dictionary, "writer.version": version, "page.size": "512"}.items():
                frame = frame.option(f"parquet.{name}", value)
            frame.parquet(str(folder))
            check_keys(program, tmp_path / f"{moments}-ingested", [sorted(folder.glob("*.parquet"))], columns)
    finally:
        spark.stop()
