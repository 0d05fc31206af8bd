"""The job done by Spark on one machine: local threads, the first record of each key by the smallest place.

Row numbers over all keys of a table run in one task: Spark has no other way to dense numbers in an order. Line items
are numbered file by file, after counting, so that all tasks can write. This module must never do what the job does not
ask for.
"""

import os
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as f

from job import Job, Table


def run(job: Job, _form: str):
    spark = (
        SparkSession.builder.master(f"local[{job.threads}]")
        .config("spark.driver.memory", "8g")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.local.dir", str(Path(job.output).parent / "spark"))
        .config("spark.log.level", "ERROR")
        .config("spark.sql.parquet.compression.codec", job.compression.partition("(")[0])
        .config("spark.hadoop.parquet.compression.codec.zstd.level", "1")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", str(2 * job.threads))
        .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    source = numbered(spark, job)
    maps = {}
    for table in job.tables:
        frame = things(source, table, job) if table.key else source.withColumn(table.id, f.col("place") + 1)
        for name in table.references:
            frame = frame.join(maps[name], job.table(name).key, "left")
        if table.key:
            frame = frame.cache()
            maps[table.name] = frame.select(table.key, table.id)
        frame.select(job.header(table)).write.parquet(str(Path(job.output, table.name)))
    end(spark)


def numbered(spark: SparkSession, job: Job) -> DataFrame:
    """The records, each with its place: 0, 1, 2, ... in the order of files and rows."""
    spark.read.parquet(*job.sources).select("*", "_metadata.file_name", "_metadata.row_index").createOrReplaceTempView(
        "source"
    )
    records = spark.sql(job.sql("source", *(["file_name", "row_index"] if job.transform else [])))
    if job.transform:
        in_file = Window.partitionBy("file_name").orderBy("row_index")
        records = records.withColumn("row_index", f.row_number().over(in_file) - 1).cache()
    counts = {row["file_name"]: row["count"] for row in records.groupBy("file_name").count().collect()}
    before = 0
    firsts = []
    for path in job.sources:
        firsts += [f.lit(os.path.basename(path)), f.lit(before)]
        before += counts.get(os.path.basename(path), 0)
    place = f.element_at(f.create_map(*firsts), f.col("file_name")) + f.col("row_index")
    return records.withColumn("place", place.cast("bigint"))


def things(source: DataFrame, table: Table, job: Job) -> DataFrame:
    """The first record of each key, with its ID."""
    others = [column for column in job.used(table) if column != table.key]
    found = source.where(f.col(table.key).isNotNull()).groupBy(table.key)
    first = found.agg(f.min(f.struct("place", *others)).alias("first")).select(table.key, "first.*")
    number = f.row_number().over(Window.orderBy("place")).cast("bigint")
    return first.withColumn(table.id, number).drop("place")


def end(spark: SparkSession):
    """Stops Spark and waits for its process, whose time counts only then."""
    gateway = spark.sparkContext._gateway
    spark.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()
