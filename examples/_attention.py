"""Self-attention with optional dropout layers, for the examples."""

import numpy as np
from _network import Dense, softmax

from fastdrop import nn


class Attention(nn.Layer):
    """Multi-head self-attention of (samples, tokens, features), with up to three dropout layers.

    `key` (DropKey) acts on the logits, `weights` (AttentionDropout) on the probabilities, and `head` (DropHead) on the outputs
    of the heads.
    """

    def __init__(self, features, heads, rng, **drops):
        super().__init__()
        self.heads, self.scale = heads, np.float32((features // heads) ** -0.5)
        self.drops = ("key", "weights", "head")
        projections = {"in": Dense(features, 3 * features, rng, gain=1.0), "out": Dense(features, features, rng, gain=1.0)}
        self.children = projections | drops

    def dropped(self, name, x, again, records):
        """Return the output of the layer with this name, or x if there is no such layer."""
        if name in self.children:
            x, records[name] = self.children[name].record(x, again=again and again[name])
        return x

    def undropped(self, name, grad, records):
        return self.children[name].gradient(grad, records[name]) if name in self.children else grad

    def record(self, x, again=None):
        kept = {}
        again = again and again[0]
        mixed, kept["in"] = self.children["in"].record(x)
        samples, tokens, _ = x.shape
        q, k, v = mixed.reshape(samples, tokens, 3, self.heads, -1).transpose(2, 0, 3, 1, 4)
        logits = self.dropped("key", q @ k.swapaxes(2, 3) * self.scale, again, kept)
        p = softmax(logits)
        weights = self.dropped("weights", p, again, kept)
        y = self.dropped("head", weights @ v, again, kept)
        result, kept["out"] = self.children["out"].record(y.transpose(0, 2, 1, 3).reshape(x.shape))
        return result, (kept, q, k, v, p, weights)

    def gradient(self, grad, record):
        kept, q, k, v, p, weights = record
        samples, heads, tokens, size = v.shape
        grad = self.children["out"].gradient(grad, kept["out"]).reshape(samples, tokens, heads, size).transpose(0, 2, 1, 3)
        grad = self.undropped("head", grad, kept)
        of_weights, of_v = grad @ v.swapaxes(2, 3), weights.swapaxes(2, 3) @ grad
        of_p = self.undropped("weights", of_weights, kept)
        of_logits = self.undropped("key", p * (of_p - (p * of_p).sum(axis=-1, keepdims=True)), kept) * self.scale
        of_mixed = np.stack([of_logits @ k, of_logits.swapaxes(2, 3) @ q, of_v])
        return self.children["in"].gradient(of_mixed.transpose(1, 3, 0, 2, 4).reshape(samples, tokens, -1), kept["in"])
