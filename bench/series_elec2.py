#!/usr/bin/env python3
"""Classes: brood live --as series on Elec2, the standard stream with drift (M. Harries 1999), test then train.

    bench/series_elec2.py BROOD FOLDER      FOLDER holds elec.csv.gz, with the column "class"

Beside it the last known label, and logistic regression by AdaGrad on the values of the row and the last known label. Labels
are known 1 and 48 rows late.
"""
import argparse
import csv
import gzip
import json
import math
import pathlib
import subprocess
import sys
import tempfile


def logistic(rows, delay, rate=0.2):
    """Prequential accuracy."""
    labels = [float(row["class"]) for row in rows]
    names = [name for name in rows[0] if name != "class"]
    inputs = []
    for t, row in enumerate(rows):
        known = 2 * labels[t - delay] - 1 if t >= delay else 0.0
        inputs.append([1.0, known] + [float(row[name]) for name in names])
    w, squares, right = [0.0] * len(inputs[0]), [1e-8] * len(inputs[0]), 0
    for t, z in enumerate(inputs):
        if t >= delay:
            late = inputs[t - delay]
            p = 1 / (1 + math.exp(-max(-30.0, min(30.0, sum(a * b for a, b in zip(w, late))))))
            for i, x in enumerate(late):
                g = (p - labels[t - delay]) * x
                squares[i] += g * g
                w[i] -= rate * g / math.sqrt(squares[i])
        right += (sum(a * b for a, b in zip(w, z)) > 0) == (labels[t] > 0)
    return right / len(rows)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("brood")
    arguments.add_argument("folder", type=pathlib.Path)
    asked = arguments.parse_args()
    with gzip.open(asked.folder / "elec.csv.gz", "rt") as lines:
        text = lines.read()
    rows = list(csv.DictReader(text.splitlines()))
    print("labels late by      options       right   last label   logistic   rows/s")
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        file.write(text)
        file.flush()
        for delay in (1, 48):
            beside = logistic(rows, delay)
            for options in ([], ["--season", "48"], ["--lags", "8"], ["--lags", "24"], ["--lags", "96"]):
                run = subprocess.run([asked.brood, "live", "--as", "series", "--in", file.name, "--label", "class",
                                      "--delay", str(delay), "--json", *options], capture_output=True, text=True)
                if run.returncode:
                    sys.exit(run.stderr)
                said = json.loads(run.stdout)
                print(f"{delay:14}   {' '.join(options):>12}   {100 * said['accuracy']:6.2f} %   {100 * said['repeat_label_accuracy']:8.2f} %"
                      f"   {100 * beside:6.2f} %   {said['rows_per_second']:6.0f}")


if __name__ == "__main__":
    main()
