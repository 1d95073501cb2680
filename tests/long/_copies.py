"""Copies of the checkout in which some files are changed: a program builds the package there, and runs tests on it."""

import subprocess
import sys

from _record import ROOT, text_of

# Less optimized modules take less time to compile. Functions that are not optimized, or are sanitized, need more stack.
UNOPTIMIZED = [(b"FRAME = 26624", b"FRAME = 2**20"), (b'"-O3"', b'"-O1"'), (b'"-O2"', b'"-O1"')]


def copy(folder, edits):
    """Copy the files of the checkout. `edits` has the pairs of old and new bytes per file.

    A file that the folder already has is not written again, so that only what has changed is compiled again.
    """
    for name in text_of("git", "ls-files").splitlines():
        source = (ROOT / name).read_bytes()
        for old, new in edits.get(name, ()):
            if old not in source:
                raise SystemExit(f"{name} does not contain {old.decode()}")
            source = source.replace(old, new)
        target = folder / name
        if not target.exists() or target.read_bytes() != source:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source)


def build(folder, variables):
    """Build the modules beside their sources."""
    command = [sys.executable, "setup.py", "-q", "egg_info", "build_ext", "--inplace"]  # fastdrop.config() reads the version
    subprocess.run(command, cwd=folder, check=True, env=variables)


def run_tests(run, folder, tests, choice, variables):
    """Run tests of the copy; add their last line and their failures to a run."""
    options = ["-m", "not slow", "-k", choice, "-n", "0", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests], cwd=folder, env=variables, capture_output=True, text=True
    )
    lines = done.stdout.strip().splitlines()
    run.figures["tests"] = lines[-1] if lines else f"ended with {done.returncode}: {done.stderr[-300:]}"
    failed = [line[:300] for line in lines if line.startswith(("FAILED", "ERROR"))]
    for line in failed or ([run.figures["tests"]] if done.returncode else []):
        run.found(line)
