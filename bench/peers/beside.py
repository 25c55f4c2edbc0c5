"""Measuring a peer and brood beside each other: the same machine, the same minutes, turn and turn about.

A ratio is only fair when both sides were measured in one run and the peer ran in its best environment. The functions
here do both; the scripts beside this file say what is measured.
"""

import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time

# Freed blocks go back to the allocator, not to the system: without this glibc maps and unmaps every large gradient
# anew, and an eager PyTorch step of a small model is up to three times slower.
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_TOP_PAD_": "134217728",
}


# Some virtual machines announce AMX but hide its description (CPUID leaf 1DH reads zero); oneDNN then configures no
# tiles and its bf16 products die of an illegal instruction.
BF16_PRODUCT = "import torch; a = torch.ones(64, 64, dtype=torch.bfloat16); a @ a"


def usable_isa():
    """The highest instruction set that oneDNN may be allowed here, as its environment variable spells it."""
    died = subprocess.run([sys.executable, "-c", BF16_PRODUCT]).returncode == -signal.SIGILL
    return "AVX512_CORE_BF16" if died else "DEFAULT"


def in_best_environment(threads):
    """Starts the calling script again in PyTorch's best environment, unless it already runs in it.

    OPENBLAS_CORETYPE matters where PyTorch uses OpenBLAS (Debian's does): an exported older core, or a processor newer
    than OpenBLAS, costs a factor of two to five. SkylakeX is its fastest f32 kernel wherever there is AVX-512.
    """
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA") or usable_isa()
    wanted = dict(os.environ, **KEEP_FREED_MEMORY, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads),
                  ONEDNN_MAX_CPU_ISA=isa, DNNL_MAX_CPU_ISA=isa)
    wanted.pop("OPENBLAS_CORETYPE", None)
    if "avx512f" in cpu("flags").split():
        wanted["OPENBLAS_CORETYPE"] = "SkylakeX"
    if wanted != dict(os.environ):
        os.execvpe(sys.executable, [sys.executable] + sys.argv, wanted)


def cpu(what):
    """What the system says of its processor: "model name", "flags"; empty where it does not say."""
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith(what):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return ""


def seconds_per_call(call, at_least=1.0, calls=5, warm_up=1):
    """Times of single calls, in seconds: at least so many calls and so many seconds of them, after a warm-up."""
    for _ in range(warm_up):
        call()
    times = []
    while len(times) < calls or sum(times) < at_least:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def summary(times):
    """Best, median and median absolute deviation of times; the best is what a busy machine distorts least."""
    middle = statistics.median(times)
    return {
        "best": min(times),
        "median": middle,
        "mad": statistics.median(abs(t - middle) for t in times),
        "repeats": len(times),
    }


def brood_speed(brood, model, what, **flags):
    """Runs `brood speed` and returns its JSON object. Flags become --name value."""
    command = [brood, "speed", "--model", model, "--what", what, "--json"]
    for name, value in flags.items():
        command += ["--" + name.replace("_", "-"), str(value)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with exit code {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def ratio(ours, theirs):
    return None if ours is None or not theirs else ours / theirs


def show(rows, columns):
    """Prints rows (dictionaries) as a table of the given columns to standard error."""

    def text(value):
        if value is None:
            return "-"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    table = [columns] + [[text(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    for line in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths)), file=sys.stderr)


def report(peer, rows, columns, **about):
    """The table for people on standard error, one JSON object as the last line of standard output."""
    show(rows, columns)
    print(json.dumps({"peer": peer, "cpu": cpu("model name") or platform.machine(), **about, "results": rows}))
