"""Reads every Delta table in a folder with Apache Spark, a few times over; prints JSON, table -> the rows of each time.

count_rows_spark.py TABLES [JARS] [TIMES]: every column of every row is read, so that a file that Spark cannot read
is noticed. Run it over tables that are being written: a table never has fewer rows than before, nor a row twice.
JARS is a folder with delta-spark's jars; without it they are fetched from Maven Central.
Needs: Java 17, pip install pyspark==4.0.1
"""

import json
import pathlib
import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

# What tells a row of a table from every other.
KEYS = {
    "events": ["source_topic", "source_partition", "source_offset", "source_line"],
    "features": ["source_topic", "source_partition", "source_offset", "source_line"],
    "predictions": ["prediction_id"],
}


def session(jars):
    builder = (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.databricks.delta.snapshotPartitions", "1")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    )
    if jars:
        found = ",".join(str(jar) for jar in sorted(pathlib.Path(jars).glob("*.jar")))
        builder = builder.config("spark.jars", found)
    else:
        builder = builder.config("spark.jars.packages", "io.delta:delta-spark_2.13:4.0.0")
    return builder.getOrCreate()


def main():
    tables = pathlib.Path(sys.argv[1])
    spark = session(sys.argv[2] if len(sys.argv) > 2 else "")
    times = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    spark.sparkContext.setLogLevel("ERROR")
    counts = {}
    for _ in range(times):
        for path in sorted(path for path in tables.iterdir() if (path / "_delta_log").is_dir()):
            rows = spark.read.format("delta").load(str(path))
            # A hash of all columns reads them all.
            whole = rows.withColumn("_row", f.xxhash64(*[f.to_json(f.struct("*"))]))
            count = whole.agg(f.count("_row")).first()[0]
            seen = counts.setdefault(path.name, [])
            if seen and count < seen[-1]:
                sys.exit(f"{path.name}: {count} rows, and {seen[-1]} before")
            seen.append(count)
            keys = KEYS.get(path.name)
            if keys and rows.groupBy(*keys).count().where("count > 1").first():
                sys.exit(f"{path.name}: rows with one {', '.join(keys)}")
    print(json.dumps(counts, indent=2))


main()
