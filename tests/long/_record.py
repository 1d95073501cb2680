"""Parts that the programs here share: their common options, the progress bar, and the record of a run."""

import argparse
import json
import os
import platform
import subprocess
import sys
import sysconfig
import time
from datetime import datetime, timezone
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

ROOT = Path(__file__).resolve().parents[2]


def parser(description, count, unit):
    """Return a parser with the options that each program has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--seed", type=int, default=1, help="names the random choices (default: %(default)s)")
    made.add_argument("--count", type=int, default=count, help=f"number of {unit} (default: %(default)s)")
    made.add_argument("--record", type=Path, help="file to which the record of this run is appended")
    return made


def progress_bar():
    """Return a progress bar on standard error, which is shown only on a terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, disable=not sys.stderr.isatty())


def text_of(*command):
    """Return the output of a command, or "unknown"."""
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def commit():
    """Return the commit of this checkout, and whether files differ from it."""
    changed = text_of("git", "status", "--porcelain", "--untracked-files=no")
    return text_of("git", "rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def machine():
    """Return the processor's name and the number of processors."""
    names = [line.partition(":")[2].strip() for line in cpu_lines() if line.startswith(("model name", "cpu model"))]
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} processors"


def cpu_lines():
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


class Run:
    """A run of a program: it collects figures and findings, prints them, and appends them to the record."""

    def __init__(self, record):
        self.record = record
        self.began = time.monotonic()
        self.figures = {}
        self.findings = []

    def found(self, finding):
        """Keep a finding, and print it at once."""
        self.findings.append(finding)
        print(f"FOUND {finding}", file=sys.stderr, flush=True)

    def lines(self):
        command = " ".join(["python", os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]])
        yield f"date      {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
        yield f"machine   {machine()}, Python {platform.python_version()}"
        yield f"commit    {commit()}"
        yield f"command   {command}"
        yield f"seconds   {time.monotonic() - self.began:.0f}"
        for name, value in self.figures.items():
            yield f"{name}: {value if isinstance(value, str) else json.dumps(value)}"
        yield f"findings: {len(self.findings)}"
        yield from (f"  {finding}" for finding in self.findings)

    def end(self):
        """Print and append the record; return the exit code."""
        text = "\n".join(self.lines()).replace(sysconfig.get_path("purelib"), "site-packages")
        print(text)
        if self.record:
            self.record.parent.mkdir(parents=True, exist_ok=True)
            with open(self.record, "a", encoding="utf-8") as file:
                file.write(text + "\n\n")
        return 1 if self.findings else 0
