"""Every engine reproduces the data files, which are never regenerated."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

import fastdrop

KNOWN_ANSWERS = Path(fastdrop.__file__).parent / "known_answers"
SHA256 = {
    "philox4x32_10.kat": "1a1062b4e06d59ba8a6773361f9b555d77b86451d19f6934935cb87f1ad01a1a",
    "stream1_golden.json": "d75ae9a88bb535a88ec0158bc98298d1b0ae8d65d2a36b0affa6972e6e892e71",
}


def key_of(row):
    """Return the arguments of a row of the golden file."""
    return {name: int(row[name]) for name in ("seed", "offset", "start")}


def philox_rows():
    """Return (counter, key, output) of each known answer."""
    lines = (KNOWN_ANSWERS / "philox4x32_10.kat").read_text().splitlines()
    rows = [line.replace("->", "|").split("|") for line in lines if line and not line.startswith("#")]
    return [[[int(word, 16) for word in part.split()] for part in row] for row in rows]


@pytest.mark.parametrize("name", SHA256)
def test_data_files_are_as_published(name):
    assert hashlib.sha256((KNOWN_ANSWERS / name).read_bytes()).hexdigest() == SHA256[name]


def test_there_are_known_answers(golden):
    assert len(philox_rows()) == 5
    assert (len(golden["words"]), len(golden["keep"]), len(golden["fold_in"])) == (5, 11, 5)


def test_philox_blocks(engine):
    for counter, key, output in philox_rows():
        assert engine.philox(counter, key) == tuple(output)


def test_golden_words(engine, golden):
    for row in golden["words"]:
        words = fastdrop.words(len(row["words"]), **key_of(row))
        assert [f"{word:08x}" for word in words] == row["words"]


def test_golden_masks(engine, golden):
    for row in golden["keep"]:
        packed = fastdrop.dropout_mask(row["n"], row["p"], packed=True, **key_of(row))
        assert packed.tobytes().hex() == row["packed_little"]
        assert int(np.unpackbits(packed).sum()) == row["kept"]


def test_golden_masks_are_what_dropout_keeps(engine, golden):
    for row in golden["keep"]:
        kept = fastdrop.dropout(np.ones(row["n"]), row["p"], **key_of(row)) != 0
        assert np.packbits(kept, bitorder="little").tobytes().hex() == row["packed_little"]


def test_golden_derived_keys(engine, golden):
    for row in golden["fold_in"]:
        assert fastdrop.fold_in(int(row["seed"]), int(row["data"])) == int(row["result"])
