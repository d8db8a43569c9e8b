"""Counts the rows of every Delta table in a folder with DuckDB and with Polars; prints JSON.

Reads every column of every row, so that a file that an engine cannot read is noticed.
Needs: pip install duckdb==1.5.5 duckdb-extension-delta==1.5.5 polars deltalake pytz
"""

import json
import pathlib
import sys

import duckdb
import duckdb_extension_delta
import polars

tables = pathlib.Path(sys.argv[1])
extension = next(pathlib.Path(duckdb_extension_delta.__file__).parent.rglob("delta.duckdb_extension"))
connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
connection.execute(f"LOAD '{extension}'")

counts = {}
for table in sorted(path for path in tables.iterdir() if path.is_dir()):
    rows = connection.execute(f"SELECT * FROM delta_scan('{table}')").fetchall()
    counts[table.name] = {"duckdb": len(rows), "polars": polars.read_delta(str(table)).height}
print(json.dumps(counts, indent=2))
