"""DuckDB's side of `salience bench backfill --peers`: windows of the user alone, from the lake's events to a table.

Usage: backfill_duckdb.py EVENTS OURS OUT THREADS. EVENTS and OURS are folders of the tables of events and of our
vectors, OUT is the file written. Prints one JSON object.

Counts of views, clicks and purchases and the value of purchases over six windows, 24 sums. Rates, ages and the last
behaviours, which our vectors have too, are left out, and so are the columns of the view but for four: it has less to do.
The sums are by event time: what came late counts, which a stream cannot know yet.
"""

import json
import resource
import sys
import time

import duckdb

WINDOWS = {
    "1m": 60_000,
    "10m": 600_000,
    "1h": 3_600_000,
    "1d": 86_400_000,
    "7d": 604_800_000,
    "30d": 2_592_000_000,
}


def query(events):
    """Vectors of the views in a folder of Parquet files."""
    columns, windows = [], []
    for name, span in WINDOWS.items():
        windows.append(
            f'w_{name} AS (PARTITION BY "user" ORDER BY t RANGE BETWEEN {span} PRECEDING AND CURRENT ROW)'
        )
        columns += [
            # The view itself is no part of its own history.
            f"sum(v) OVER w_{name} - v AS user_views_{name}",
            f"sum(c) OVER w_{name} AS user_clicks_{name}",
            f"sum(p) OVER w_{name} AS user_purchases_{name}",
            f"sum(if(p = 1, value, 0)) OVER w_{name} AS user_value_{name}",
        ]
    return f"""
        SELECT * EXCLUDE (v, c, p, value, t) FROM (
            SELECT event_id, event_time, "user", item, v, c, p, value, t, {", ".join(columns)}
            FROM (
                SELECT event_id, event_time, "user", item, value, epoch_ms(event_time) AS t,
                       (kind = 'view')::INT AS v, (kind = 'click')::INT AS c, (kind = 'purchase')::INT AS p
                FROM read_parquet('{events}/**/*.parquet', hive_partitioning = false)
            )
            WINDOW {", ".join(windows)}
        )
        WHERE v = 1
    """


def main():
    events, ours, out, threads = sys.argv[1:]
    connection = duckdb.connect()
    connection.execute(f"SET threads = {int(threads)}; SET preserve_insertion_order = false")
    wall, cpu = time.perf_counter(), time.process_time()
    connection.execute(f"COPY ({query(events)}) TO '{out}' (FORMAT parquet, COMPRESSION zstd)")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    check = "SELECT count(*), sum(user_views_1d)::BIGINT FROM read_parquet('{}', hive_partitioning = false)"
    views, total = connection.execute(check.format(out)).fetchone()
    our_views, our_total = connection.execute(check.format(f"{ours}/**/*.parquet")).fetchone()
    said = {
        "version": duckdb.__version__, "wall_s": wall, "cpu_s": cpu, "peak_rss_mib": peak,
        "views": views, "sum": total, "our_views": our_views, "our_sum": our_total,
    }
    print(json.dumps(said))


main()
