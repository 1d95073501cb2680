"""Runs of libFuzzer through atheris: a process that fuzzes, whose output is read for the progress and the record."""

import re
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from _record import Run, parser, progress_bar

COUNT = re.compile(r"^#(\d+)\s.*?cov: (\d+) ft: (\d+) corp: (\d+)")


def instrumented():
    """Return a context in which imported modules get counters of coverage, if this process fuzzes."""
    if "--fuzz" not in sys.argv:
        return nullcontext()
    import atheris

    return atheris.instrument_imports(include=["fastdrop", "numpy.lib"])


def main(description, one_input, corpus, max_len):
    """Fuzz in a process of its own, or be that process."""
    if "--fuzz" in sys.argv:
        import atheris

        atheris.Setup([sys.argv[0], *sys.argv[sys.argv.index("--fuzz") + 1 :]], one_input)
        return atheris.Fuzz()
    options = parser(description.splitlines()[0], 5_000_000, "executions")
    options.add_argument("--seconds", type=int, default=0, help="end after so many seconds; 0 is no limit")
    options.add_argument("--keep", action="store_true", help="add to the corpus what reached new code")
    given = options.parse_args()
    run = Run(given.record)
    with tempfile.TemporaryDirectory() as folder:
        new = str(corpus) if given.keep else folder
        command = [sys.executable, sys.argv[0], "--fuzz", new, str(corpus), f"-runs={given.count}", f"-seed={given.seed}"]
        command += [
            f"-max_len={max_len}",
            f"-max_total_time={given.seconds}",
            "-timeout=300",
            f"-artifact_prefix={folder}/",
            "-rss_limit_mb=4096",
        ]
        watch(run, command, given.count)
        for path in Path(folder).glob("*-*"):
            if path.name.startswith(("crash", "timeout", "oom", "leak")):
                run.found(f"{path.name.partition('-')[0]}: {path.read_bytes()!r}")
    return run.end()


def watch(run, command, count):
    """Read the output of libFuzzer."""
    lines = []
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, errors="replace") as process,
        progress_bar() as bar,
    ):
        task = bar.add_task("executions", total=count)
        for line in process.stderr:
            lines = [*lines[-40:], line.rstrip()]
            if found := COUNT.match(line):
                run.figures["executions"], run.figures["coverage"], run.figures["corpus"] = map(int, found.group(1, 2, 4))
                bar.update(task, completed=int(found[1]))
    if process.returncode:
        run.found(f"ended with {process.returncode}: {' | '.join(lines)[-1500:]}")
