"""The examples: their networks' gradients, and each one's short form as a user runs it."""

import json
import re

import numpy as np
import pytest
from example_runs import EXAMPLES, run_example

from fastdrop import losses, nn, theory

pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="no examples beside the tests")


@pytest.fixture(scope="module", autouse=True)
def _needs():
    for package in ("click", "rich", "sklearn", "threadpoolctl"):
        pytest.importorskip(package)


@pytest.fixture
def network(monkeypatch):
    """Import a module of the examples by name."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return __import__


TOO_SHORT = "This run is too short to draw conclusions from it."


def printed_by(name, *arguments, folder):
    """Return the output of an example in one line, without table borders."""
    return re.sub(r"[\s─━│┃]+", " ", run_example(name, *arguments, folder=folder))


def in_double(layer):
    """Return a layer with its parameters in double, for differences."""
    for _, one in layer.walk():
        for name, value in list(one.own_parameters.items()):
            one.add_parameter(name, value.astype(np.float64))
    return layer.seed(1)


LAYERS = {
    "dense": ("_network", lambda m, rng: m.Dense(4, 4, rng, drop=nn.Shakeout(0.3)), (5, 4)),
    "residual": (
        "_network",
        lambda m, rng: m.Residual(nn.Sequential([m.Dense(4, 4, rng), m.Relu(), m.Selu()]), nn.DropPath(0.3)),
        (5, 4),
    ),
    "shaped": ("_network", lambda m, rng: m.Shaped(nn.SpatialDropout(0.3), (2, 2)), (5, 4)),
    "recurrent, locked": ("_recurrent", lambda m, rng: m.Gru(4, 6, rng, drop=nn.Dropout(0.3)), (5, 3, 4)),
    "recurrent, fresh, zoneout": (
        "_recurrent",
        lambda m, rng: m.Gru(4, 6, rng, drop=nn.Dropout(0.3), locked=False, zone=nn.Zoneout(0.3)),
        (5, 3, 4),
    ),
    "attention": (
        "_attention",
        lambda m, rng: m.Attention(
            4, 2, rng, key=nn.DropKey(0.2, fill=-3.0), weights=nn.AttentionDropout(0.3, unit="key"), head=nn.DropHead(0.3)
        ),
        (3, 5, 4),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_finite_differences(network, name):
    module, make, shape = LAYERS[name]
    rng = np.random.default_rng(0)
    layer, x = in_double(make(network(module), rng)), rng.standard_normal(shape)
    y, record = layer.record(x)
    cotangent = rng.standard_normal(y.shape)
    grad, h = layer.gradient(cotangent, record), 1e-5
    for value, gradient in [(x, grad), *((value, layer.gradients[name]) for name, value in layer.parameters.items())]:
        direction, kept = rng.standard_normal(value.shape), value.copy()
        losses = []
        for sign in (1, -1):
            value[...] = kept + sign * h * direction
            losses.append(float((layer.record(x, again=record)[0] * cotangent).sum()))
        value[...] = kept
        assert (losses[0] - losses[1]) / (2 * h) == pytest.approx(float((gradient * direction).sum()), rel=1e-5, abs=1e-6)


def test_a_locked_state_has_one_mask_and_a_fresh_one_many(network):
    recurrent, x = network("_recurrent"), np.ones((5, 3, 4))
    for locked, draws in ((True, 1), (False, 5)):
        layer = in_double(recurrent.Gru(4, 6, np.random.default_rng(0), drop=nn.Dropout(0.3), locked=locked))
        _, (_, steps) = layer.record(x)
        assert len({step["dropped"].offset for step in steps}) == draws
        assert layer.children["drop"].stream.offset == draws


def test_cross_entropy(network):
    logits, labels = np.random.default_rng(0).standard_normal((6, 4)), np.array([0, 1, 2, 3, 0, 1])
    loss, grad = network("_network").cross_entropy(logits, labels)
    want = np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, labels, strict=True)])
    assert loss == pytest.approx(want)
    logits[2, 1] += 1e-6
    assert (network("_network").cross_entropy(logits, labels)[0] - loss) / 1e-6 == pytest.approx(grad[2, 1], rel=1e-4)


def test_comparisons_say_in_words_which_is_smaller(network):
    compared = network("_report").compared
    small, large = [1.0, 1.1, 1.2], [1.3, 1.41, 1.5]
    assert compared(small, large, "folds") == "smaller by 0.303 ± 0.006 over 3 folds"
    assert compared(large, small, "folds") == "larger by 0.303 ± 0.006 over 3 folds"
    assert compared(large, small, "seeds", ("better", "worse")) == "worse by 0.303 ± 0.006 over 3 seeds"
    assert compared([1.0, 2.0], [1.5, 1.4], "folds") == "the same within the spread (larger by 0.050 ± 0.778) over 2 folds"
    assert compared([2.0, 1.0], [1.4, 1.7], "folds") == "the same within the spread (smaller by 0.050 ± 0.919) over 2 folds"
    assert compared([1.0], [2.0], "folds") == "not comparable: a comparison takes two folds or more"


def test_digits(tmp_path):
    pytest.importorskip("matplotlib")
    chosen = ("--only", "none", "--only", "inverted, p = 0.5", "--only", "inverted, driven by the gap", "--only", "keys")
    printed = printed_by("digits_mlp.py", "--short", "--no-torch", *chosen, "--figure", "digits.png", folder=tmp_path)
    assert "inverted, driven by" in printed
    assert TOO_SHORT in printed
    assert "the gap is" not in printed
    assert (tmp_path / "digits.png").stat().st_size > 10_000


def test_digits_in_torch(tmp_path):
    pytest.importorskip("torch")
    few = ("--folds", "2", "--epochs", "3", "--only", "none", "--network", "dense")
    printed = printed_by("digits_mlp.py", *few, folder=tmp_path)
    found = re.search(r"PyTorch, none: validation accuracy is the same .*?er by (\S+) ± \S+\) over 2 folds", printed)
    assert found, printed
    assert abs(float(found[1])) < 0.02  # the same network, from the same weights, with the same batches


def test_all_rows_of_digits_run(network):
    """One pass of each network: the gradients of all parameters are there."""
    digits, x = network("digits_mlp"), np.random.default_rng(0).random((8, 64), np.float32)
    for row in digits.ROWS:
        model = row.make(np.random.default_rng(0), 100).seed(0)
        y = model.forward(x)
        assert y.shape == (8, 10)
        model.backward(y)
        missing = {name for name, value in model.gradients.items() if not value.any()}
        assert not missing, row


def test_the_divergence_has_the_gradient_of_its_share(network):
    digits, rng = network("digits_mlp"), np.random.default_rng(0)
    layer = in_double(digits.noisy(4, 3, rng))
    layer.kl(0.3)
    given = [layer.own_parameters[name] for name in ("weight", "log_sigma2")]
    for value, name in zip(given, ("weight", "log_sigma2"), strict=True):
        direction, kept, costs = rng.standard_normal(value.shape), value.copy(), []
        for sign in (1, -1):
            value[...] = kept + sign * 1e-6 * direction
            costs.append(0.3 * float(losses.variational_kl(theory.log_alpha(*given))))
        value[...] = kept
        want = float((layer.own_gradients[name] * direction).sum())
        assert (costs[0] - costs[1]) / 2e-6 == pytest.approx(want, rel=1e-5)


def test_resume(tmp_path):
    printed = printed_by("resume.py", "--short", folder=tmp_path)
    assert "all have the same weights, to the byte" in printed
    assert printed.count("after step 17") == 2


def test_weights_of_another_run_are_others(network, tmp_path):
    """What `resume` compares depends on the masks."""
    resume = network("resume")
    digests = []
    for seed in (42, 42, 43):
        model = resume.network(seed=42, steps=30).seed(seed)
        optimizer, x = resume.Adam(model), np.ones((8, 64), np.float32)
        resume.train_step(model, optimizer, x, np.zeros(8, int))
        digests.append(resume.digest(model))
    assert digests[0] == digests[1] != digests[2]


def test_text(tmp_path):
    pytest.importorskip("matplotlib")
    printed = printed_by("text_rnn.py", "--short", "--figure", "text.png", folder=tmp_path)
    assert TOO_SHORT in printed
    assert "best validation: " not in printed
    assert (tmp_path / "text.png").stat().st_size > 10_000


def test_convergence(network, tmp_path):
    printed = printed_by("convergence.py", "--short", "--only", "adaptive", "--record", "out.json", folder=tmp_path)
    assert "dense adaptive 0 of 2 not reached" in printed
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["results"] == [
        {"network": "dense", "technique": "adaptive", "folds": [{"epochs": None, "seconds": None}] * 2}
    ]


def test_convergence_of_no_technique(network, tmp_path):
    """Nothing is measured, and the record of an earlier run stays."""
    from click.testing import CliRunner

    record = tmp_path / "out.json"
    record.write_text("earlier")
    module = network("convergence")
    done = CliRunner().invoke(module.main, ["--short", "--only", "none", "--only", "typo", "--record", str(record)])
    assert done.exit_code == 2
    assert "there is no technique typo; the names are none" in re.sub(r"[\s│]+", " ", done.output)
    assert record.read_text() == "earlier"


def test_convergence_counts_the_epochs_until_the_loss_is_reached(network, monkeypatch):
    module = network("convergence")
    losses_after = iter([0.9, 0.6, 0.5, 0.4])
    monkeypatch.setattr(module, "scored", lambda p, labels: (next(losses_after), 0.0))
    (row,) = [row for row in module.ROWS if (row.network, row.name) == ("dense", "none")]
    (fold,) = network("_digits").folds(1)
    found = module.converge(row, fold, 9)
    assert found["epochs"] == 3
    assert found["seconds"] >= 0
