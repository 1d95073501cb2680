"""Dropout of arrays that one machine does not hold: three measurements of docs/scale.md.

    python examples/scale.py blocks             # seconds per GB, over block sizes, on one and two processes
    python examples/scale.py zarr [--gib 4]     # from Zarr to Zarr, with workers that may use 1 GiB of memory each
    python examples/scale.py workers            # 10,000 workers over an array of 10^16 elements, simulated

`blocks` and `zarr` need dask[distributed] and zarr. `--short` is for a quick look.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import fastdrop
from fastdrop._core.backends import reference

P, SEED = 0.1, 42
MIB, GIB = 2**20, 2**30


def start_cluster(workers: int, memory: str | int = 0) -> Any:
    """Return a cluster of processes on this machine, one thread each."""
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, memory_limit=memory, dashboard_address=None, silence_logs=40
    )


# Seconds per GB -------------------------------------------------------------------------------------------------------


def first_element(block: np.ndarray) -> np.ndarray:
    """Return a small summary of a block, so that no result is sent."""
    return block[:1].copy()


def measure_blocks(client: Any, size: int, total: int) -> float:
    """Return the seconds per GB of dropout of blocks that the workers hold."""
    import dask.array as da

    import fastdrop.dask

    n, count = size // 4, total // size
    held = client.persist(da.ones(n * count, chunks=n, dtype=np.float32).map_blocks(np.ascontiguousarray))
    made = fastdrop.dask.dropout(held, P, seed=SEED).map_blocks(first_element, chunks=((1,) * count,))
    times = []
    for _ in range(4):
        began = time.perf_counter()
        client.compute(made).result()
        times.append(time.perf_counter() - began)
    return min(times) / (n * count * 4 / 1e9)


def blocks(is_short: bool) -> None:
    from distributed import Client

    sizes = {size: min(size * 1024, (64 if is_short else 512) * MIB) for size in (MIB // 16, MIB, 16 * MIB, 64 * MIB)}
    print("block      one worker   two workers   (seconds per GB)")
    rows: dict[int, list[float]] = {size: [] for size in sizes}
    for workers in (1, 2):
        with start_cluster(workers) as cluster, Client(cluster) as client:
            for size, total in sizes.items():
                rows[size].append(measure_blocks(client, size, total))
    for size, (one, two) in rows.items():
        print(f"{size // 1024:6,} KiB  {one:10.3f}  {two:12.3f}")


# From Zarr to Zarr ----------------------------------------------------------------------------------------------------


def peak() -> int:
    """Return the most memory that this process has had, in bytes; `getrusage` would count the process that started it, too."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


ROWS, COLUMNS = 256, 4096  # of a block of 4 MiB


def create(folder: Path, shape: tuple[int, int]) -> Any:
    import zarr

    return zarr.create_array(store=str(folder), shape=shape, chunks=(ROWS, COLUMNS), dtype="float32", compressors=None)


def write_block(block: np.ndarray, folder: str, block_id: tuple[int, int]) -> np.ndarray:
    """Write a block in the task that makes it. `to_zarr` has tasks of its own for that, and blocks pile up before them."""
    import zarr

    first = block_id[0] * ROWS
    zarr.open_array(folder)[first : first + len(block)] = block
    return block[:1, :1].copy()


def write(array: Any, folder: Path) -> None:
    """Compute an array into a Zarr array."""
    array.map_blocks(write_block, str(folder), chunks=(1, 1), meta=array._meta).compute()


def zarr(gib: float) -> None:
    """Fill an array, drop it into another one, and compare blocks of the result with NumPy's."""
    import dask.array as da
    from distributed import Client

    import fastdrop.dask

    shape = (int(gib * GIB) // (4 * COLUMNS), COLUMNS)
    folder = Path(tempfile.mkdtemp())
    try:
        with start_cluster(2, GIB) as cluster, Client(cluster) as client:
            source, target = create(folder / "x", shape), create(folder / "y", shape)
            write(fastdrop.dask.uniform(shape, chunks=(ROWS, COLUMNS), seed=1), folder / "x")
            began = time.perf_counter()
            write(fastdrop.dask.dropout(da.from_zarr(source), P, seed=SEED), folder / "y")
            seconds, peaks = time.perf_counter() - began, client.run(peak)
        for start in range(0, shape[0], max(shape[0] // 8, 1)):
            part = slice(start, start + 100)
            wanted = fastdrop.dropout(source[part], P, seed=SEED, global_shape=shape, global_start=(start, 0))
            if wanted.tobytes() != target[part].tobytes():
                raise SystemExit(f"rows {start} to {start + 100} are not NumPy's")
    finally:
        shutil.rmtree(folder)
    print(f"{gib:g} GiB in {seconds:.1f} s; workers had at most {max(peaks.values()) / MIB:.0f} MiB; equal to NumPy's bytes")


# Simulated workers ----------------------------------------------------------------------------------------------------

SHAPE, BLOCK, GROUP = (10**8, 10**8), (10**4, 10**4), 128  # 10^8 blocks of 10^8 elements


def find_groups(worker: int) -> list[tuple[int, int]]:
    """Return where the first and the last group of three random blocks begin."""
    draw, found = random.Random(worker), []
    for _ in range(3):
        row, column = (draw.randrange(whole // size) * size for whole, size in zip(SHAPE, BLOCK, strict=True))
        found += [(row, column), (row + BLOCK[0] - 1, column + BLOCK[1] - GROUP)]
    return found


def keep_flags(indices: np.ndarray) -> np.ndarray:
    """Return the reference's decisions for elements of any indices; it knows nothing of blocks."""
    bits = np.zeros((indices.size + 7) // 8, np.uint8)
    reference.keep_bits_at(SEED, 0, int(math.ldexp(P, 64)), indices, bits)
    return np.unpackbits(bits, count=indices.size, bitorder="little").astype(bool)


def check_workers(numbers: range) -> None:
    """Compare the groups of some workers, each made as a block of its own, with the reference."""
    groups = [group for worker in numbers for group in find_groups(worker)]
    x, place = np.ones((1, GROUP), np.float32), {"seed": SEED, "global_shape": SHAPE, "num_threads": 1}
    made = np.concatenate([fastdrop.dropout(x, P, global_start=group, **place)[0] for group in groups])
    indices = np.concatenate([row * SHAPE[1] + column + np.arange(GROUP) for row, column in groups])
    if not np.array_equal(made != 0, keep_flags(indices)):
        raise SystemExit(f"the groups of the workers {numbers} are not the reference's")


def workers(count: int) -> None:
    """Let each worker make the first and the last group of three random blocks."""
    began = time.perf_counter()
    for first in range(0, count, 100):
        check_workers(range(first, first + 100))
    print(f"{count:,} workers, {6 * count:,} groups of {math.prod(SHAPE):.0e} elements: all equal to the reference")
    try:
        fastdrop.dropout(np.ones((1, 1), np.float32), P, seed=SEED, global_shape=(2**28, 2**28), global_start=(2**28 - 1, 0))
    except OverflowError as error:
        print(f"an array of 2**56 elements is refused: {error}")
    print(f"{time.perf_counter() - began:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("blocks", "zarr", "workers"))
    parser.add_argument("--gib", type=float, default=4, help="the size of the array for zarr")
    parser.add_argument("--short", action="store_true", help="less of everything")
    given = parser.parse_args()
    if given.what == "blocks":
        blocks(given.short)
    elif given.what == "zarr":
        zarr(1 / 16 if given.short else given.gib)
    else:
        workers(100 if given.short else 10_000)


if __name__ == "__main__":
    main()
