"""Federated dropout: masks made again from eight bytes, parts, and their mean, to the bit."""

import doctest
import hashlib
import re

import numpy as np
import oracle
import pytest
from comparisons import DTYPES, assert_same_bytes, by_reference, normal
from example_runs import run_example

import fastdrop
from fastdrop import federated
from fastdrop.federated import Update, aggregate, client_seed, extract, kept_units
from fastdrop.verify.cases import spoiled

AXES = {"w1": (None, "a"), "b1": ("a",), "w2": ("a", "b"), "w3": ("b", None)}
UNITS = {"a": 9, "b": 6}


def network(dtype=np.float32, seed=0):
    shapes = {"w1": (4, 9), "b1": (9,), "w2": (9, 6), "w3": (6, 3)}
    return {name: normal(shape, dtype, seed + k) for k, (name, shape) in enumerate(shapes.items())}


def clients(dtype=np.float32, run=42, number=5):
    """Return updates: each client's part of a network of its own, and its weight."""
    updates = []
    for client in range(number):
        kept = kept_units(UNITS, 0.5, client_seed(run, 3, client))
        updates.append(Update(extract(network(dtype, 10 * client + 10), AXES, kept), kept, client * 7 + 1))
    return updates


def slow_mean(server, axes, updates):
    """Return the mean of each coordinate, by a loop over coordinates and clients."""
    result = {name: value.copy() for name, value in server.items()}
    for name, value in server.items():
        for place in np.ndindex(*value.shape):
            total, count = 0.0, 0
            for update in updates:
                layers = zip(axes[name], place, strict=True)
                if all(layer is None or unit in update.kept[layer] for layer, unit in layers):
                    inside = tuple(
                        unit if layer is None else list(update.kept[layer]).index(unit)
                        for layer, unit in zip(axes[name], place, strict=True)
                    )
                    total += float(update.parameters[name][inside]) * update.weight
                    count += update.weight
            if count:
                result[name][place] = np.array(total / count).astype(value.dtype)
    return result


def test_a_seed_names_the_masks():
    """By the definition of the stream: the layer is folded into the client's seed, that into the round's."""
    name = int.from_bytes(hashlib.sha256(b"federated").digest()[:8], "little")
    seed = oracle.fold_in(oracle.fold_in(oracle.fold_in(42, name), 3), 7)
    assert client_seed(42, 3, 7) == seed < 2**64
    layer = int.from_bytes(hashlib.sha256(b"a").digest()[:8], "little")
    want = [i for i, keep in enumerate(oracle.keep(oracle.fold_in(seed, layer), 0, 0, 50, 0.3)) if keep]
    np.testing.assert_array_equal(kept_units({"a": 50}, 0.3, seed, count="random")["a"], want)
    words = [oracle.word(oracle.fold_in(seed, layer), 0, i) for i in range(100)]
    ranks = [words[2 * unit + 1] << 32 | words[2 * unit] for unit in range(50)]
    want = sorted(sorted(range(50), key=lambda unit: (ranks[unit], unit))[:35])
    np.testing.assert_array_equal(kept_units({"a": 50}, 0.3, seed)["a"], want)


@pytest.mark.parametrize(
    ("size", "p", "number"),
    [(8, 0.5, 4), (5, 0.5, 3), (10, 0.8, 2), (15, 0.9, 2), (100, 0.93, 7), (3, 0.99, 1), (7, 1.0, 1), (7, 0.0, 7), (0, 0.5, 0)],
)
def test_every_client_keeps_the_same_number_of_units(size, p, number):
    """As in the paper: round((1 - p) n) of n units, a half rounded up, and at least one."""
    parts = [kept_units({"a": size}, p, client_seed(7, round, 3))["a"] for round in range(40)]
    assert {len(part) for part in parts} == {number}
    assert all((np.diff(part) > 0).all() and set(part) <= set(range(size)) for part in parts)


def test_each_unit_is_kept_as_often_as_any_other():
    parts = [kept_units({"a": 20}, 0.75, client_seed(7, round, 3))["a"] for round in range(4000)]
    counts = np.bincount(np.concatenate(parts), minlength=20)
    assert np.abs(counts - 1000).max() < 4.5 * np.sqrt(4000 * 0.25 * 0.75)


def test_units_with_equal_words_are_ranked_by_their_number(monkeypatch):
    monkeypatch.setattr(federated, "words", lambda n, **key: np.zeros(n, np.uint32))
    np.testing.assert_array_equal(kept_units({"a": 6}, 0.5, 1)["a"], [0, 1, 2])


def test_rounds_clients_and_layers_have_masks_of_their_own():
    masks = set()
    for round in range(3):
        for client in (*range(3), "phone"):
            for units in kept_units({"a": 64, "b": 64}, 0.5, client_seed(1, round, client)).values():
                masks.add(units.tobytes())
    assert len(masks) == 3 * 4 * 2


def test_the_same_units_by_every_engine(engine):
    seed = client_seed(5, 0, 1)
    for count in ("fixed", "random"):
        want = by_reference(kept_units, {"a": 5000}, 0.1, seed, count=count)["a"]
        assert_same_bytes(kept_units({"a": 5000}, 0.1, seed, count=count)["a"], want)


def test_a_rate_for_each_layer():
    kept = kept_units({"a": 30, "b": 20, "c": 30}, {"a": 0.0, "b": 1.0, "c": 0.5}, 1, count="random")
    np.testing.assert_array_equal(kept["a"], np.arange(30))
    assert kept["b"].shape == (0,)
    np.testing.assert_array_equal(kept["c"], kept_units({"c": 30}, 0.5, 1, count="random")["c"])
    assert abs(kept_units({"a": 100_000}, 0.25, 9, count="random")["a"].size - 75_000) < 5 * np.sqrt(100_000 * 0.1875)


def test_a_part_computes_what_the_masked_network_does():
    """A network whose dropped units are masked, and its part, give the same output."""
    whole = network(np.float64)
    kept = kept_units(UNITS, 0.5, client_seed(1, 0, 0))
    part, x = extract(whole, AXES, kept), normal((5, 4))

    def forward(weights, mask_a=1.0, mask_b=1.0):
        a = np.maximum(x @ weights["w1"] + weights["b1"], 0) * mask_a
        return np.maximum(a @ weights["w2"], 0) * mask_b @ weights["w3"]

    masks = [np.isin(np.arange(size), kept[layer]) for layer, size in UNITS.items()]
    np.testing.assert_allclose(forward(part), forward(whole, *masks), rtol=1e-12)
    part["w1"][:] = 0  # a copy
    assert whole["w1"].all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_mean_to_the_bit(dtype):
    server, updates = network(dtype), clients(dtype)
    new, counts = aggregate(server, AXES, iter(updates))
    want = slow_mean(server, AXES, updates)
    for name, value in new.items():
        assert_same_bytes(value, want[name])
        assert counts[name].dtype == np.int64
        assert_same_bytes(value[counts[name] == 0], server[name][counts[name] == 0])
    assert any((counts[name] == 0).any() for name in counts)  # or the line above says nothing
    assert_same_bytes(server["w2"], network(dtype)["w2"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_server_makes_the_masks_again(dtype):
    """What the server needs beside the trained numbers is the eight bytes of each client."""
    server, updates = network(dtype), clients(dtype)
    seeds = [client_seed(42, 3, client).to_bytes(8, "little") for client in range(5)]
    again = [
        Update(update.parameters, kept_units(UNITS, 0.5, int.from_bytes(seed, "little")), update.weight)
        for seed, update in zip(seeds, updates, strict=True)
    ]
    with fastdrop.using(backend="numpy"), spoiled():
        got, counts = aggregate(server, AXES, again)
    want, counted = aggregate(server, AXES, updates)
    for name in server:
        assert_same_bytes(got[name], want[name])
        assert_same_bytes(counts[name], counted[name])


def test_one_client_with_everything_replaces_the_server():
    kept = kept_units(UNITS, 0.0, 1)
    new, counts = aggregate(network(), AXES, [Update(network(seed=50), kept, 7)])
    for name, value in network(seed=50).items():
        assert_same_bytes(new[name], value)
        assert (counts[name] == 7).all()


def test_nobody():
    new, counts = aggregate(network(), AXES, [])
    for name, value in network().items():
        assert_same_bytes(new[name], value)
        assert not counts[name].any()
    nothing = kept_units(UNITS, 1.0, 1, count="random")
    part = extract(network(), AXES, nothing)
    assert part["w2"].shape == (0, 0)
    assert not aggregate(network(), AXES, [Update(part, nothing)])[1]["w2"].any()


def test_weights_whose_sum_is_too_large_are_refused():
    """The counts would wrap around, and the mean would be that of no client."""
    whole = {"h": np.array([0, 1])}
    updates = [Update({"b": np.ones(2)}, whole, weight=2**62) for _ in range(2)]
    with pytest.raises(OverflowError, match=r"sum below 2\*\*63"):
        aggregate({"b": np.zeros(2)}, {"b": ("h",)}, updates)
    mean, counts = aggregate({"b": np.zeros(2)}, {"b": ("h",)}, [updates[0], updates[0]._replace(weight=2**62 - 1)])
    assert (mean["b"] == 1).all()
    assert (counts["b"] == 2**63 - 1).all()


def test_an_empty_list_is_no_units():
    part = extract({"b": np.ones(3)}, {"b": ("h",)}, {"h": []})
    assert part["b"].shape == (0,)


def test_a_parameter_without_axes_stays_an_array():
    server, axes = {"p_logit": np.array(0.5, np.float32)}, {"p_logit": ()}
    part = extract(server, axes, {})
    assert type(part["p_logit"]) is np.ndarray
    assert part["p_logit"] == server["p_logit"]
    part["p_logit"][...] = 2.0
    assert server["p_logit"] == 0.5
    new, counts = aggregate(server, axes, [Update(part, {}, 3)])
    assert (new["p_logit"], counts["p_logit"], new["p_logit"].dtype) == (2.0, 3, np.float32)


def test_bad_input():
    server = network()
    update = clients(number=1)[0]
    for call, error, match in (
        (lambda: kept_units({"a": 3}, 1.5, 1), ValueError, "1.5"),
        (lambda: kept_units({"a": 3}, {"b": 0.5}, 1), ValueError, r"\['a'\]; it has \['b'\]"),
        (lambda: kept_units({1: 4, "a": 4}, {1: 0.5}, 3), ValueError, r"\['a', 1\]; it has \[1\]"),
        (lambda: extract({"w": [1.0]}, {"w": ("b",)}, {1: [0], "a": [0]}), ValueError, r"'b'; kept has only \['a', 1\]"),
        (lambda: extract({"w": [1.0]}, {"w": ([0],)}, {"a": [0]}), ValueError, r"the units of \[0\]; kept has only \['a'\]"),
        (lambda: aggregate({1: [1.0], "a": [1.0]}, {}, [Update({1: [1.0]}, {})]), ValueError, r"\['a', 1\]; it has \[1\]"),
        (lambda: client_seed(1, -1, 2), ValueError, "-1"),
        (
            lambda: client_seed(1, 0, 2.0),
            TypeError,
            r"a client that is no string must be an integer in \[0, 2\*\*64\); got 2\.0",
        ),
        (lambda: client_seed(1, "0", 2), TypeError, r"round must be an integer .* got '0'"),
        (lambda: extract({"w": [[1], [1, 2]]}, {"w": (None,)}, {}), ValueError, "parameter 'w' must be an array, or lists"),
        (lambda: extract(server, {"w1": (None,)}, update.kept), ValueError, r"each axis of 'w1'"),
        (lambda: extract(server, AXES, {"a": np.array([0])}), ValueError, "'b'; kept has only"),
        (lambda: extract(server, AXES, {"a": np.array([9]), "b": np.array([0])}), ValueError, "only 9"),
        (lambda: extract(server, AXES, {"a": np.array([1, 1]), "b": np.array([0])}), ValueError, "increasing"),
        (lambda: extract(server, AXES, {"a": np.array([-1]), "b": np.array([0])}), ValueError, "increasing"),
        (lambda: extract(server, AXES, {"a": np.array([2, 0], np.uint64), "b": np.array([0])}), ValueError, "increasing"),
        (lambda: kept_units([3], 0.5, 1), TypeError, r"units must be a mapping .* got \[3\] \(list\)"),
        (lambda: kept_units(3, 0.5, 1), TypeError, "units must be a mapping"),
        (lambda: kept_units({"a": 3}, [0.5], 1), TypeError, "p must be a number"),
        (lambda: kept_units({"a": -3}, 0.5, 1), ValueError, "-3"),
        (lambda: kept_units({"a": 2.5}, 0.5, 1), TypeError, "2.5"),
        (lambda: kept_units({"a": 3}, 0.5, "x"), TypeError, "seed must be"),
        (lambda: kept_units({}, 0.5, "x"), TypeError, "seed must be"),
        (lambda: kept_units({}, 1.5, 1), ValueError, "1.5"),
        (lambda: kept_units({"a": 3}, 0.5, 1, count="any"), ValueError, "count must be 'fixed' or 'random'; got 'any'"),
        (lambda: extract([server["w1"]], AXES, update.kept), TypeError, "parameters must be a mapping"),
        (lambda: extract(server, [("a",)], update.kept), TypeError, "axes must be a mapping"),
        (lambda: extract(server, AXES, [np.array([0])]), TypeError, "kept must be a mapping"),
        (lambda: extract(server, {**AXES, "b1": 3}, update.kept), ValueError, r"each axis of 'b1', .* got 3"),
        (lambda: extract(server, {**AXES, "w1": "ab"}, update.kept), ValueError, r"each axis of 'w1', .* got 'ab'"),
        (lambda: extract(server, AXES, {**update.kept, "a": None}), ValueError, "increasing"),
        (lambda: aggregate(3, AXES, []), TypeError, "parameters must be a mapping"),
        (lambda: aggregate(server, 3, [update]), TypeError, "axes must be a mapping"),
        (lambda: aggregate(server, 3, []), TypeError, "axes must be a mapping"),
        (lambda: aggregate(server, AXES, update), TypeError, "updates must be Update objects"),
        (lambda: aggregate(server, AXES, 3), TypeError, "updates must be an iterable of Update objects; got 3"),
        (lambda: aggregate(server, AXES, np.array(3)), TypeError, "updates must be an iterable of Update objects; got array"),
        (lambda: aggregate(server, AXES, [(1, 2, 3)]), TypeError, "updates must be Update objects"),
        (
            lambda: aggregate(server, AXES, [update._replace(parameters=[1])]),
            TypeError,
            "parameters of an update",
        ),
        (lambda: aggregate(server, AXES, [update._replace(kept=[1])]), TypeError, "kept must be a mapping"),
        (
            lambda: aggregate({"b": np.zeros(3, int)}, {"b": (None,)}, []),
            TypeError,
            "'b' must have a floating-point dtype; got int64",
        ),
        (
            lambda: aggregate(server, AXES, [update._replace(parameters={**update.parameters, "b1": "x"})]),
            TypeError,
            "the update of 'b1' must be real numbers",
        ),
        (lambda: aggregate(server, AXES, [update._replace(weight=0)]), ValueError, "weight must be at least 1"),
        (lambda: aggregate(server, AXES, [update._replace(parameters={})]), ValueError, "must have the parameters"),
        (lambda: aggregate(server, AXES, [update._replace(parameters=server)]), ValueError, r"'w1' has shape \(4, 9\)"),
    ):
        with pytest.raises(error, match=match):
            call()


@pytest.mark.slow
def test_the_example_in_short(tmp_path):
    shown = run_example("federated.py", "--short", "--figure", tmp_path / "accuracy.png", folder=tmp_path)
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000
    assert "too short to draw conclusions" in shown
    megabytes = [float(found) for found in re.findall(r"0\.\d+? +│ +([\d.]+) +│", shown)]
    assert len(megabytes) == 3
    assert megabytes[0] > megabytes[1] > megabytes[2] > 0.4 * megabytes[0]


def test_examples():
    result = doctest.testmod(federated)
    assert result.attempted
    assert not result.failed
