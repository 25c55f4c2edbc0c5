#!/usr/bin/env python3
"""Anomalies: brood live --as series on files of the Numenta Anomaly Benchmark, scored as that benchmark does
(A. Lavin, S. Ahmad, "Evaluating Real-Time Anomaly Detection Algorithms", 2015, arXiv 1510.03336; standard profile).

    bench/series_nab.py BROOD FOLDER [--check RESULTS]

FOLDER holds data/<category>/<file>.csv and labels/combined_windows.json as NAB does, and published_standard_scores.csv
with the published scores of other detectors for each file. One threshold for all files, nothing else is chosen by looking at
labels. RESULTS: NAB's folder of results; every published score of a file there is computed anew from the anomaly scores of
its rows, to check the scoring. Plain Python, no packages.
"""
import argparse
import csv
import datetime
import json
import math
import pathlib
import subprocess
import sys
import time

PROBATION, FALSE_ALARM, MISSED = 0.15, 0.11, 1.0


def sigmoid(y):
    return -1.0 if y > 3 else 2 / (1 + math.exp(5 * y)) - 1


def moment(text):
    return datetime.datetime.fromisoformat(text.split(".")[0])


class File:
    """The rows of one file: for each, its window (or none) and what an alarm there is worth."""

    def __init__(self, name, times, windows):
        index = {}
        for row, at in enumerate(times):
            index.setdefault(at, row)
        self.name, self.rows = name, len(times)
        self.first = int(min(math.floor(PROBATION * len(times)), PROBATION * 5000))
        self.windows = [(index[moment(a)], index[moment(b)]) for a, b in windows]
        self.worth, self.window = [], []
        left, before = list(self.windows), None
        for row in range(len(times)):
            while left and row > left[0][1]:
                before = left.pop(0)
            if left and row >= left[0][0]:
                width = left[0][1] - left[0][0] + 1
                self.worth.append(sigmoid(-(left[0][1] - row + 1) / width) / sigmoid(-1))
                self.window.append((name, left[0]))
            else:
                y = 4 if before is None else (row - before[1]) / (before[1] - before[0])
                self.worth.append(FALSE_ALARM * sigmoid(y))
                self.window.append(None)

    def score(self, scores, threshold):
        best, false = {}, 0.0
        for row in range(self.first, self.rows):
            if scores[row] < threshold:
                continue
            if self.window[row]:
                best[self.window[row]] = max(best.get(self.window[row], -MISSED), self.worth[row])
            else:
                false += self.worth[row]
        seen = {self.window[row] for row in range(self.first, self.rows)} - {None}
        return false + sum(best.get(window, -MISSED) for window in seen)


def best_threshold(files, scores):
    """The threshold with the highest score over all files, that score, windows found, alarms outside of them."""
    rows = [(scores[f.name][r], f.worth[r], f.window[r]) for f in files for r in range(f.first, f.rows)]
    rows.sort(key=lambda row: -row[0])
    windows = {row[2] for row in rows} - {None}
    total, best, found, false = -MISSED * len(windows), None, {}, 0
    for i, (score, worth, window) in enumerate(rows):
        if window is None:
            total += worth
            false += 1
        elif worth > found.get(window, -MISSED):
            total += worth - found.get(window, -MISSED)
            found[window] = worth
        last = i + 1 == len(rows) or rows[i + 1][0] != score
        if last and (best is None or total > best[1]):
            best = (score, total, len(found), false)
    return best


def standard(raw, windows):
    return 100 * (raw + MISSED * windows) / ((1 + MISSED) * windows)


def read_files(folder):
    windows = json.loads((folder / "labels" / "combined_windows.json").read_text())
    files = []
    for path in sorted((folder / "data").glob("*/*.csv")):
        name = f"{path.parent.name}/{path.name}"
        with open(path) as rows:
            times = [moment(row["timestamp"]) for row in csv.DictReader(rows)]
        files.append(File(name, times, windows[name]))
    return files


def detect(brood, path):
    run = subprocess.run([brood, "live", "--as", "series", "--in", path, "--out", "-", "--columns", "value"],
                         capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    return [float(row["value.anomaly"] or 0) for row in csv.DictReader(run.stdout.splitlines())]


def check(files, published, results):
    """Largest difference between a published score of a file and the one computed here."""
    worst, count = 0.0, 0
    by_name = {f.name: f for f in files}
    for row in published:
        folder, name = row["File"].split("/")
        path = results / row["Detector"] / folder / f"{row['Detector']}_{name}"
        if not path.exists():
            continue
        with open(path) as lines:
            scores = [float(line["anomaly_score"]) for line in csv.DictReader(lines)]
        score = by_name[row["File"]].score(scores, float(row["Threshold"]))
        worst, count = max(worst, abs(score - float(row["Score"]))), count + 1
    print(f"{count} published scores of files computed anew: off by {worst:.2g} at most")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("brood")
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("--check", type=pathlib.Path, metavar="RESULTS")
    asked = arguments.parse_args()
    files = read_files(asked.folder)
    windows = sum(len(f.windows) for f in files)
    published_file = asked.folder / "published_standard_scores.csv"
    published = []
    if published_file.exists():
        with open(published_file) as rows:
            names = {f.name for f in files}
            published = [row for row in csv.DictReader(rows) if row["File"] in names]
    if asked.check:
        check(files, published, asked.check)
    begin = time.monotonic()
    scores = {f.name: detect(asked.brood, asked.folder / "data" / f.name) for f in files}
    seconds = time.monotonic() - begin
    threshold, raw, found, false = best_threshold(files, scores)
    table = {}
    for row in published:
        table[row["Detector"]] = table.get(row["Detector"], 0) + float(row["Score"])
    table = [(standard(raw, windows), detector) for detector, raw in table.items()]
    table.append((standard(raw, windows), f"brood live --as series, threshold {threshold:.4g}: "
                                          f"{found} of {windows} windows, {false} alarms outside"))
    for score, detector in sorted(table, reverse=True):
        print(f"{score:6.1f}  {detector}")
    rows = sum(f.rows for f in files)
    print(f"{len(files)} files, {rows} rows in {seconds:.1f} s ({rows / seconds:.0f}/s, with starting the program and reading its rows)")


if __name__ == "__main__":
    main()
