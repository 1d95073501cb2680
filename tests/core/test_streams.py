"""Streams: the keys that they draw, the seeds that they derive, and copies, pickles and state dicts that preserve them."""

import copy
import itertools
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastdrop
from fastdrop._core.keys import FIRST_CHILD
from fastdrop.verify.cases import equal_bytes

LAST = 2**64 - 1
X = np.ones(300)
CALLS = {
    "dropout": lambda seed, **more: fastdrop.dropout(X, 0.5, seed=seed, **more),
    "dropout in standard mode": lambda seed, **more: fastdrop.dropout(X, 0.5, seed=seed, mode="standard", **more),
    "dropout_backward": lambda seed, **more: fastdrop.dropout_backward(X, 0.5, seed=seed, **more),
    "dropout_mask": lambda seed, **more: fastdrop.dropout_mask(300, seed=seed, **more),
    "packed dropout_mask": lambda seed, **more: fastdrop.dropout_mask(300, seed=seed, packed=True, **more),
    "words": lambda seed, **more: fastdrop.words(300, seed=seed, **more),
    "uniform": lambda seed, **more: fastdrop.uniform(300, seed=seed, **more),
    "an empty mask": lambda seed, **more: fastdrop.dropout_mask(0, seed=seed, **more),
}
FORWARD = [name for name in CALLS if "backward" not in name]


# Drawing ------------------------------------------------------------------------------------------------------------


def test_next_counts_offsets():
    stream = fastdrop.Stream(5, 7)
    assert [stream.next() for _ in range(3)] == [(5, 7), (5, 8), (5, 9)]
    assert (stream.seed, stream.offset) == (5, 10)


def test_seed_and_offset_are_read_only():
    stream = fastdrop.Stream(5)
    for name in ("seed", "offset"):
        with pytest.raises(AttributeError):
            setattr(stream, name, 1)


@pytest.mark.parametrize("name", FORWARD)
def test_each_call_uses_a_stream_once(engine, name):
    call = CALLS[name]
    stream = fastdrop.Stream(3, 2**32 - 1)
    for offset in (2**32 - 1, 2**32, 2**32 + 1):
        assert stream.offset == offset
        assert equal_bytes(call(stream), call(3, offset=offset))
    assert stream.state_dict() == {"stream": 1, "seed": 3, "offset": 2**32 + 2, "spawned": 0}


@pytest.mark.parametrize("name", FORWARD)
def test_numpys_seeds(name):
    call = CALLS[name]
    sequence = np.random.SeedSequence(99)
    first = int(np.random.SeedSequence(99).generate_state(1, np.uint64)[0])
    assert equal_bytes(call(sequence), call(first))
    assert equal_bytes(call(sequence, offset=4), call(first, offset=4))
    generator, twin = np.random.default_rng(99), np.random.default_rng(99)
    for offset in (0, 4):
        drawn = int(twin.integers(0, 2**64, dtype=np.uint64))
        assert equal_bytes(call(generator, offset=offset), call(drawn, offset=offset))
    assert generator.bit_generator.state == twin.bit_generator.state
    assert equal_bytes(call(np.random.PCG64(99)), call(int(np.random.default_rng(99).integers(0, 2**64, dtype=np.uint64))))


@pytest.mark.parametrize("name", CALLS)
def test_a_key_is_a_seed(engine, name):
    call = CALLS[name]
    assert equal_bytes(call(fastdrop.Key(3, 2**32)), call(3, offset=2**32))
    with pytest.raises(ValueError, match="offset must not be given with a key"):
        call(fastdrop.Key(3, 2**32), offset=1)


@pytest.mark.parametrize("name", set(CALLS) - set(FORWARD))
@pytest.mark.parametrize(
    "seed", [fastdrop.Stream(3), np.random.default_rng(3), np.random.PCG64(3)], ids=lambda s: type(s).__name__
)
def test_a_seed_with_a_state_makes_no_mask_again(name, seed):
    """A seed with a state would give the next mask, and so a wrong gradient."""
    with pytest.raises(TypeError, match=r"key = .*; then y = dropout\(x, p, seed=key\)"):
        CALLS[name](seed)
    if isinstance(seed, fastdrop.Stream):
        assert seed.offset == 0


def test_keys():
    assert fastdrop.Key() != fastdrop.Key()
    assert fastdrop.Key(42, 7) == (42, 7)
    assert fastdrop.Key(np.random.SeedSequence(9)).seed == int(np.random.SeedSequence(9).generate_state(1, np.uint64)[0])
    assert pickle.loads(pickle.dumps(fastdrop.Key(1, 2))) == fastdrop.Key(1, 2)
    assert fastdrop.Stream(fastdrop.Key(4, 5)).offset == 5
    stream = fastdrop.Stream(8, 3)
    assert stream.key() == stream.key() == stream.next() == fastdrop.Key(8, 3)
    assert stream.key() == (8, 4)
    for bad, error in (
        ((-1,), ValueError),
        ((2**64,), ValueError),
        ((1.5,), TypeError),
        ((1, -1), ValueError),
        ((True,), TypeError),
    ):
        with pytest.raises(error):
            fastdrop.Key(*bad)


@pytest.mark.parametrize("seed", [np.uint64(LAST), np.int8(3), np.array(5)])
def test_any_integer_is_a_seed(seed):
    assert equal_bytes(fastdrop.words(9, seed=seed, offset=seed), fastdrop.words(9, seed=int(seed), offset=int(seed)))
    assert fastdrop.Stream(seed) == fastdrop.Stream(int(seed))


def test_streams_from_numpys_seeds():
    sequence = np.random.SeedSequence(98)
    assert fastdrop.Stream(sequence).seed == int(sequence.generate_state(1, np.uint64)[0])
    drawn = int(np.random.default_rng(98).integers(0, 2**64, dtype=np.uint64))
    assert fastdrop.Stream(np.random.default_rng(98), 3) == fastdrop.Stream(drawn, 3)


def test_no_seed_is_a_fresh_one():
    assert len({fastdrop.Stream().seed for _ in range(10)}) == 10
    first, second = (fastdrop.dropout(X, 0.5) for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fresh_seeds_of_a_forked_process_are_its_own(run_python):
    """Entropy that a process kept in memory would be the same in its children."""
    done = run_python(
        """
        import os
        import fastdrop

        print(fastdrop.Key().seed, flush=True)
        for _ in range(2):
            if not os.fork():
                print(fastdrop.Key().seed, flush=True)
                os._exit(0)
            os.wait()
        print(fastdrop.Key().seed, flush=True)
        """
    )
    assert len(set(done.stdout.split())) == 4, done.stderr


def test_the_last_offset_and_then_no_more():
    stream = fastdrop.Stream(5, LAST)
    assert stream.next() == (5, LAST)
    assert stream.offset == 2**64
    out = np.full(3, 9.0)
    for use in (stream.next, lambda: fastdrop.dropout(out, seed=stream, out=out)):
        with pytest.raises(OverflowError, match=r"all of its 2\*\*64 offsets"):
            use()
    assert out.tolist() == [9, 9, 9]
    assert copy.copy(stream) == stream
    assert fastdrop.Stream.from_state_dict(stream.state_dict()).offset == 2**64
    (child,) = stream.spawn(1)
    assert child.next() == (fastdrop.fold_in(5, FIRST_CHILD), 0)


def test_threads_share_a_stream_without_repeats():
    stream = fastdrop.Stream(6)

    def use(_):
        return [stream.next()[1] for _ in range(2000)], [child.seed for _ in range(50) for child in stream.spawn(1)]

    with ThreadPoolExecutor(8) as pool:
        offsets, children = map(list, map(itertools.chain.from_iterable, zip(*pool.map(use, range(8)), strict=True)))
    assert sorted(offsets) == list(range(16_000))
    assert sorted(children) == sorted(child.seed for child in fastdrop.Stream(6).spawn(400))


# Deriving -----------------------------------------------------------------------------------------------------------


def test_fold_in_gives_streams(engine):
    stream = fastdrop.Stream(42, 17)
    for data in (0, 7, LAST, "encoder.0", "", "λ"):
        assert stream.fold_in(data) == fastdrop.Stream(fastdrop.fold_in(42, data))
    assert stream == fastdrop.Stream(42, 17)


def test_different_names_give_different_seeds():
    data = [*range(1000), *(2**k for k in range(10, 64)), *map(str, range(1000)), "a", "A", "a "]
    assert len({fastdrop.fold_in(seed, item) for seed in (0, 1, 2**32, LAST) for item in data}) == 4 * len(data)


def test_names_that_are_no_text_are_refused():
    with pytest.raises(UnicodeEncodeError):
        fastdrop.fold_in(1, "\ud800")


def test_children_are_counted_over_all_calls():
    stream = fastdrop.Stream(8, 5)
    children = [*stream.spawn(2), *stream.spawn(0), *stream.spawn(3)]
    assert children == [fastdrop.Stream(fastdrop.fold_in(8, 2**63 + k)) for k in range(5)]
    assert children == fastdrop.Stream(8).spawn(5)
    assert stream.state_dict() == {"stream": 1, "seed": 8, "offset": 5, "spawned": 5}


# Trips --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def used():
    """Return a stream that has drawn before."""
    stream = fastdrop.Stream(9, 3)
    stream.next()
    stream.spawn(2)
    return stream


@pytest.mark.parametrize(
    "trip",
    [
        copy.copy,
        copy.deepcopy,
        lambda stream: fastdrop.Stream.from_state_dict(stream.state_dict()),
        *(lambda stream, p=protocol: pickle.loads(pickle.dumps(stream, p)) for protocol in range(2, 6)),
    ],
)
def test_a_copy_goes_on_where_the_stream_was(used, trip):
    other = trip(used)
    assert other is not used
    assert other == used
    assert [other.next(), other.next()] == [(9, 4), (9, 5)]
    assert used.offset == 4
    assert other.spawn(1) == fastdrop.Stream(9).spawn(3)[2:]


def test_equality_is_of_the_whole_state(used):
    same = fastdrop.Stream(9, 4)
    assert same != used
    same.spawn(2)
    assert same == used
    assert used not in (fastdrop.Stream(9), fastdrop.Stream(8, 4), "Stream(seed=9, offset=4)", None)
    with pytest.raises(TypeError, match="unhashable"):
        hash(used)


def test_repr(used):
    assert repr(used) == "Stream(seed=9, offset=4)"
    assert eval(repr(fastdrop.Stream(1, 2)), {"Stream": fastdrop.Stream}) == fastdrop.Stream(1, 2)
