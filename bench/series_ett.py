#!/usr/bin/env python3
"""Forecasts: brood live --as series on ETTh1 and ETTh2 (Zhou et al., AAAI 2021), learning while it forecasts, honestly: a
target is learnt when it has come and not before.

    bench/series_ett.py BROOD FOLDER        FOLDER holds ETTh1.csv.gz and ETTh2.csv.gz

Rows 0 to 3599 warm up, 3600 to 14399 are scored; columns are standardised with rows 0 to 2879; the mean squared error is over
all 7 columns and all steps 1 to H. The last value and the value of the same hour on an earlier day stand beside it.
"""
import argparse
import csv
import gzip
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

HORIZONS = (1, 24, 48)
WARM_UP, ROWS, SCALED_BY = 3600, 14400, 2880


def learn(brood, path, horizon):
    run = subprocess.run([brood, "live", "--as", "series", "--in", path, "--horizon", str(horizon), "--season", "24",
                          "--warm-up", str(WARM_UP), "--json"], capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    return json.loads(run.stdout)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("brood")
    arguments.add_argument("folder", type=pathlib.Path)
    asked = arguments.parse_args()
    print("                brood   last value   a day ago   inside 80 %   rows/s")
    for name in ("ETTh1", "ETTh2"):
        with gzip.open(asked.folder / f"{name}.csv.gz", "rt") as lines:
            text = lines.read().splitlines()[:ROWS + 1]
        rows = list(csv.DictReader(text[:SCALED_BY + 1]))
        variance = {column: statistics.pvariance([float(row[column]) for row in rows]) for column in rows[0] if column != "date"}
        with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
            file.write("\n".join(text) + "\n")
            file.flush()
            for horizon in HORIZONS:
                said = learn(asked.brood, file.name, horizon)
                columns = said["columns"]

                def mean(of):
                    return statistics.fmean(of(column)["mse"] / variance[column["name"]] for column in columns)

                inside = statistics.fmean(column["inside_interval"] for column in columns)
                print(f"{name} H {horizon:2}   {mean(lambda c: c):8.3f}   {mean(lambda c: c['repeat_last']):10.3f}"
                      f"   {mean(lambda c: c['repeat_season']):9.3f}   {100 * inside:9.1f} %   {said['rows_per_second']:6.0f}", flush=True)


if __name__ == "__main__":
    main()
