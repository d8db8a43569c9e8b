"""Runs every ```sql block of a document over the tables of a lake, in DuckDB and in Polars.

queries.py TABLES DOCUMENT: prints JSON, question -> the rows that both gave; exits with 1 and says so
where they differ. CREATE VIEW blocks define views for those that follow.
Needs: pip install duckdb==1.5.5 duckdb-extension-delta==1.5.5 polars==2.1.0 deltalake pytz
"""

import datetime
import json
import math
import pathlib
import re
import sys

import duckdb
import duckdb_extension_delta
import polars

TABLES = [
    "events", "features", "labels", "predictions", "duplicates", "aggregates", "late_events", "dead_letters",
]


def blocks(document):
    """(heading, SQL) of each block."""
    heading, sql = "", None
    for line in document.splitlines():
        if sql is not None:
            if line == "```":
                yield heading, "\n".join(sql)
                sql = None
            else:
                sql.append(line)
        elif line == "```sql":
            sql = []
        elif line.startswith("#"):
            heading = line.lstrip("# ")


def same(one, other):
    """Sums of floats differ in their last digits with the order of adding."""
    if isinstance(one, float) or isinstance(other, float):
        return math.isclose(float(one), float(other), rel_tol=1e-6, abs_tol=1e-9)
    return one == other


def plain(value):
    """Decimals as numbers, times as texts."""
    return value.isoformat() if isinstance(value, datetime.datetime) else float(value)


def main():
    tables, document = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    extension = next(pathlib.Path(duckdb_extension_delta.__file__).parent.rglob("delta.duckdb_extension"))
    duck = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    duck.execute(f"LOAD '{extension}'")
    duck.execute("SET TimeZone = 'UTC'")
    bear = polars.SQLContext()
    for table in TABLES:
        duck.execute(f"CREATE VIEW {table} AS SELECT * FROM delta_scan('{tables / table}')")
        bear.register(table, polars.scan_delta(str(tables / table)))

    answers, wrong = {}, []
    for heading, sql in blocks(document.read_text()):
        view = re.match(r"CREATE VIEW (\w+) AS\s+", sql)
        if view:
            duck.execute(sql)
            bear.register(view[1], bear.execute(sql[view.end() :], eager=False))
            continue
        ours = duck.execute(sql).fetchall()
        theirs = bear.execute(sql, eager=True).rows()
        if len(ours) != len(theirs) or not all(
            len(a) == len(b) and all(map(same, a, b)) for a, b in zip(ours, theirs)
        ):
            wrong.append(f"{heading}: DuckDB {ours[:5]}, Polars {theirs[:5]}")
        answers[heading] = [list(row) for row in ours]
    print(json.dumps(answers, default=plain))
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
