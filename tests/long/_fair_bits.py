"""Turn the packed bits of a mask, read from standard input, into fair bits on standard output.

The method is von Neumann's. Of each pair of neighbouring elements, (kept, dropped) gives a 1, (dropped, kept) a 0, and equal
ones give nothing. If elements are independent and all are dropped with the same probability, whatever it is, then these bits
are independent and fair. A rate that differs with the index, or neighbours that depend on each other, show in them. A pair
gives a bit with probability 2 p (1 - p).
"""

import os
import sys

import numba
import numpy as np

PIECE = 2**20


def table():
    """Return, for each byte, the number of its fair bits times 256, plus these bits. Its lowest bit is the first element."""
    found = np.zeros(256, np.int64)
    for byte in range(256):
        pairs = [(byte >> shift & 1, byte >> (shift + 1) & 1) for shift in range(0, 8, 2)]
        bits = [first for first, second in pairs if first != second]
        found[byte] = 256 * len(bits) + sum(bit << place for place, bit in enumerate(bits))
    return found


@numba.njit
def extract(packed, bits_of, out, pending, count):
    """Write whole bytes to `out`; return how many there are, and the bits that are left, with their number."""
    size = 0
    for byte in packed:
        pending |= (bits_of[byte] & 255) << count
        count += bits_of[byte] >> 8
        out[size] = pending & 255
        whole = count >> 3  # 1 if a byte is complete: the number of pending bits is at most 11
        size += whole
        pending >>= 8 * whole
        count -= 8 * whole
    return size, pending, count


def main():
    """Convert until the input ends or the reader goes away."""
    out = np.empty(PIECE + 1, np.uint8)
    bits_of, pending, count = table(), 0, 0
    while piece := sys.stdin.buffer.read(PIECE):
        size, pending, count = extract(np.frombuffer(piece, np.uint8), bits_of, out, pending, count)
        try:
            sys.stdout.buffer.write(out[:size])
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the battery has what it needs
            return


if __name__ == "__main__":
    main()
