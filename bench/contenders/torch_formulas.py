"""The formula of each variant in PyTorch: the library's own function if it has one, else what timm or a paper's code does."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..contender import Adapter, Call, Contender, Job
from ..variants import BACKWARD, FORWARD
from .torch_cpu import prepared, tensor

Arguments = SimpleNamespace
Formula = Callable[[Any, Any, Arguments], Any]  # of torch, torch.nn.functional and the arguments


def keep(a: Arguments, shape: tuple[int, ...]) -> Any:
    """Return 0 where an element is dropped, and 1 / (1 - p) elsewhere, as timm makes it."""
    return a.x.new_empty(shape).bernoulli_(1 - a.p).div_(1 - a.p)


def many_rates(torch: Any, F: Any, a: Arguments) -> Any:
    return a.x * (torch.rand_like(a.x) >= a.p) / (1 - a.p)


def by_map(torch: Any, F: Any, a: Arguments) -> Any:
    return {3: F.dropout1d, 4: F.dropout2d, 5: F.dropout3d}[a.x.ndim](a.x, a.p)


def drop_block(torch: Any, F: Any, a: Arguments) -> Any:
    """Return timm's `drop_block_2d`: the seeds are dilated by a maximum over windows."""
    size, (height, width) = a.block_size, a.x.shape[-2:]
    places = (height - size + 1) * (width - size + 1)
    gamma = a.p * height * width / size**2 / places
    seeds = a.x.new_empty(*a.x.shape[:2], height - size + 1, width - size + 1).bernoulli_(gamma)
    kept = 1 - F.max_pool2d(F.pad(seeds, (size - 1,) * 4), size, stride=1)
    return a.x * kept * (kept.numel() / kept.sum())


def by_head(torch: Any, F: Any, a: Arguments) -> Any:
    kept = a.x.new_empty(*a.x.shape[:2], 1, 1).bernoulli_(1 - a.p)
    return a.x * kept * (kept.shape[1] / kept.sum(dim=1, keepdim=True).clamp(min=1))


def drop_key(torch: Any, F: Any, a: Arguments) -> Any:
    return a.x.masked_fill(torch.rand_like(a.x) < a.p, float("-inf"))


def renormalized(torch: Any, F: Any, a: Arguments) -> Any:
    kept = a.x * (torch.rand_like(a.x) >= a.p)
    return kept / (kept.sum(dim=-1, keepdim=True) + 1e-8)


def patches(torch: Any, F: Any, a: Arguments) -> Any:
    """Return timm's `PatchDropout` with one prefix token."""
    rest, length = a.x[:, 1:], a.x.shape[1] - 1
    kept = torch.argsort(torch.rand(len(a.x), length), dim=-1)[:, : int(length * (1 - a.p))]
    kept = rest.gather(1, kept.unsqueeze(-1).expand(-1, -1, rest.shape[-1]))
    return torch.cat((a.x[:, :1], kept), dim=1)


def concrete(temperature: float, by_map: bool = False) -> Formula:
    """Return the formula of the paper's code: a relaxed Bernoulli mask."""

    def made(torch: Any, F: Any, a: Arguments) -> Any:
        u = torch.rand(*a.x.shape[:2], 1, 1) if by_map else torch.rand_like(a.x)
        z = (a.p_logit + torch.log(u + 1e-7) - torch.log(1 - u + 1e-7)) / temperature
        return a.x * (1 - torch.sigmoid(z)) * (1 + np.exp(a.p_logit))

    return made


def gate(torch: Any, F: Any, a: Arguments) -> Any:
    probability = torch.sigmoid(a.logits)
    return a.x * torch.bernoulli(probability) / probability


def by_draws(torch: Any, F: Any, a: Arguments) -> Any:
    samples, features = a.x.reshape(-1, a.x.shape[-1]), a.x.shape[-1]
    draws = torch.multinomial(a.probabilities, len(samples) * a.k, replacement=True).reshape(len(samples), a.k)
    counts = torch.zeros_like(samples).scatter_add_(1, draws, torch.ones(1).expand(draws.shape))
    return a.x * (counts / (a.k * a.probabilities)).to(a.x.dtype).reshape(a.x.shape)[..., :features]


def small_weights(torch: Any, F: Any, a: Arguments) -> Any:
    magnitude = a.weight.detach().abs()
    limit = magnitude.kthvalue(a.weight.shape[0] // 2, dim=0).values
    return torch.where(magnitude <= limit, F.dropout(a.weight, a.p), a.weight)


def shakeout(torch: Any, F: Any, a: Arguments) -> Any:
    factor = a.weight.new_empty(len(a.weight), 1).bernoulli_(1 - a.p).div_(1 - a.p)
    return a.weight * factor + a.c * (factor - 1) * torch.sign(a.weight)


def drop_connect(torch: Any, F: Any, a: Arguments) -> Any:
    weights = F.dropout(a.weight.expand(len(a.x), *a.weight.shape), a.p)
    return torch.bmm(a.x.unsqueeze(1), weights).squeeze(1)


def noisy_layer(variance: Callable[[Any, Arguments], Any]) -> Formula:
    def made(torch: Any, F: Any, a: Arguments) -> Any:
        mean = a.x @ a.weight
        return mean + torch.sqrt((a.x * a.x) @ variance(torch, a) + 1e-8) * torch.randn_like(mean)

    return made


def divergence(torch: Any, F: Any, a: Arguments) -> Any:
    log_alpha = a.log_alpha.double()
    return (0.63576 * torch.sigmoid(-(1.87320 + 1.48695 * log_alpha)) + F.softplus(-log_alpha) / 2).sum()


def r_drop(torch: Any, F: Any, a: Arguments) -> Any:
    first, second = F.log_softmax(a.first.double(), -1), F.log_softmax(a.second.double(), -1)
    entropy = F.nll_loss(first, a.targets) + F.nll_loss(second, a.targets)
    apart = F.kl_div(first, second, reduction="none", log_target=True) + F.kl_div(
        second, first, reduction="none", log_target=True
    )
    return entropy + apart.sum(-1).mean() / 2


FORMULAS: dict[str, Formula] = {
    "dropout": lambda torch, F, a: F.dropout(a.x, a.p),
    **dict.fromkeys(("dropout-p-per-channel", "dropout-p-per-row", "dropout-p-per-element"), many_rates),
    **dict.fromkeys(("dropout1d", "dropout2d", "dropout3d", "spatial_dropout"), by_map),
    **dict.fromkeys(
        ("dropout-every-second", "dropout-transposed", "attention_dropout"), lambda torch, F, a: F.dropout(a.x, a.p)
    ),
    "dropout-bias-residual": lambda torch, F, a: a.residual + F.dropout(a.x + a.bias, a.p),
    "dropout_mask": lambda torch, F, a: torch.empty(a.shape, dtype=torch.bool).bernoulli_(1 - a.p),
    "apply_mask": lambda torch, F, a: a.x * a.mask * a.scale,
    "locked_dropout": lambda torch, F, a: a.x * keep(a, (1, *a.x.shape[1:])),
    "drop_path": lambda torch, F, a: a.x * keep(a, (len(a.x), 1, 1, 1)),
    "word_dropout": lambda torch, F, a: a.x * keep(a, (*a.x.shape[:-1], 1)),
    "embedding_dropout": lambda torch, F, a: a.x * keep(a, (len(a.x), 1)),
    "embedding_dropout-tokens": lambda torch, F, a: a.x * keep(a, (a.num_embeddings,))[a.tokens].unsqueeze(-1),
    "patch_dropout": patches,
    "group_dropout-of-4": lambda torch, F, a: a.x * keep(a, (*a.x.shape[:-1], a.x.shape[-1] // 4)).repeat_interleave(4, -1),
    "group_dropout-short-rows": lambda torch, F, a: (
        a.x * keep(a, (*a.x.shape[:-1], a.x.shape[-1] // 2)).repeat_interleave(2, -1)
    ),
    "drop_block": drop_block,
    "zoneout": lambda torch, F, a: torch.where(torch.rand_like(a.new) < a.p, a.previous, a.new),
    "alpha_dropout": lambda torch, F, a: F.alpha_dropout(a.x, a.p, training=True),
    "feature_alpha_dropout": lambda torch, F, a: F.feature_alpha_dropout(a.x, a.p, training=True),
    "gaussian_dropout": lambda torch, F, a: a.x * torch.empty_like(a.x).normal_(1, (a.p / (1 - a.p)) ** 0.5),
    "gaussian_dropout-alpha-per-unit": lambda torch, F, a: a.x * (1 + torch.exp(a.log_alpha / 2) * torch.randn_like(a.x)),
    "gaussian_noise": lambda torch, F, a: a.x + a.stddev * torch.randn_like(a.x),
    "uniform_dropout": lambda torch, F, a: a.x * torch.empty_like(a.x).uniform_(1 - a.half_width, 1 + a.half_width),
    "concrete_dropout": concrete(0.1),
    "concrete_dropout-warm": concrete(2 / 3),
    "spatial_concrete_dropout": concrete(2 / 3, by_map=True),
    "adaptive_dropout": gate,
    "multinomial_dropout": by_draws,
    "weight_drop": lambda torch, F, a: F.dropout(a.weight, a.p),
    "targeted_dropout": small_weights,
    "shakeout": shakeout,
    "drop_connect": drop_connect,
    "variational_dense": noisy_layer(lambda torch, a: torch.exp(a.log_sigma2)),
    "variational_dropout": noisy_layer(lambda torch, a: torch.exp(a.log_alpha.clamp(max=0)) * a.weight * a.weight),
    "attention_dropout-renormalised": renormalized,
    "attention_dropout-small-heads": renormalized,
    "drop_head": by_head,
    "drop_key": drop_key,
    "random.uniform": lambda torch, F, a: torch.rand(a.shape),
    "random.normal": lambda torch, F, a: torch.randn(a.shape),
    "losses.variational_kl": divergence,
    "losses.r_drop_loss": r_drop,
    "elementary.exp": lambda torch, F, a: torch.exp(a.x),
    "elementary.log": lambda torch, F, a: torch.log(a.x),
    "elementary.sigmoid": lambda torch, F, a: torch.sigmoid(a.x),
    "elementary.logit": lambda torch, F, a: torch.logit(a.x),
    "elementary.softplus": lambda torch, F, a: F.softplus(a.x),
}


# Calls ------------------------------------------------------------------------------------------------------------------


def arguments(job: Job) -> Arguments:
    """Return the keywords of a row, with tensors for arrays."""
    given = job.work.keywords
    return Arguments(**{name: tensor(value) if isinstance(value, np.ndarray) else value for name, value in given.items()})


def call_on(job: Job) -> tuple[Any, Arguments, Callable[[], Any]]:
    """Return torch, the arguments, and the call."""
    torch = prepared(job)
    a, functional, formula = arguments(job), importlib.import_module("torch.nn.functional"), FORMULAS[job.case.entry]
    return torch, a, lambda: formula(torch, functional, a)


def forward(job: Job) -> Call:
    return call_on(job)[2]


def both(job: Job) -> Call:
    torch, a, run = call_on(job)
    leaf, grad = getattr(a, next(iter(job.work.keywords))).requires_grad_(), tensor(job.work.grad)

    def call() -> tuple[Any, Any]:
        y = run()
        return y, torch.autograd.grad(y, leaf, grad)[0]

    return call


def read(found: Any) -> Any:
    return tuple(map(read, found)) if isinstance(found, tuple) else found.detach().numpy()


ADAPTER = Adapter(
    (
        Contender(
            "formula-torch",
            "the formula in PyTorch",
            {FORWARD: forward, BACKWARD: both},
            frozenset({"float32"}),
            entries=frozenset(FORMULAS),
            read=read,
        ),
    ),
    module="torch",
    distributions=("torch",),
)
