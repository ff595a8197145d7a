"""Published test-time methods against plain NumPy, with lists for caches."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from dynapurls_jax.adaptation.adanpc import AdaNpcSettings, adanpc
from dynapurls_jax.adaptation.api import StreamInfo, adapter_of, run_stream
from dynapurls_jax.adaptation.calip import CalipSettings, calip
from dynapurls_jax.adaptation.skeleton_cache import SkeletonCacheSettings, skeleton_cache
from dynapurls_jax.adaptation.tda import TdaSettings, tda
from tests.helpers.cases import cases
from tests.helpers.small_model import small_model, small_tokens

COUNT = 32
PURLS = list(itertools.product(("label_free", "per_candidate"), ("global", "weighted")))


class Plain:
    """The stream of a small zero-shot method as NumPy arrays.

    Attributes:
      vectors: `[N, Q, R, e]`.
      classes: `[C, R, e]`.
    """

    def __init__(self, kind, score):
        self.model, self.variables, self.candidates = small_model(kind, score)
        e = self.model.embedding
        self.features = self.model.encode(self.variables, small_tokens(COUNT, seed=3))
        scored = e.scored(self.candidates)
        self.vectors = np.asarray(e.embed(self.variables, self.features, scored), float)
        self.classes = np.asarray(scored.classes, float)
        alpha = self.variables["params"]["alpha"] if score == "weighted" else np.zeros(1)
        self.alpha = softmax(np.asarray(alpha, float))
        self.scale = float(e.scale(self.variables))
        self.labels = range(len(self.classes))

    def cosine(self, a, b):
        """Of two samples or classes `[R, e]`."""
        return float(((a * b).sum(axis=-1) * self.alpha).sum())

    def viewed(self, vectors, label):
        """A sample's vectors for one class."""
        return vectors[label if len(vectors) > 1 else 0]

    def static(self, vectors):
        """Logits of a sample `[Q, R, e]`."""
        views = [(self.viewed(vectors, c), self.classes[c]) for c in self.labels]
        return self.scale * np.array([self.cosine(*pair) for pair in views])

    def run(self, method, update_before_predict=False):
        """The method's stream."""
        adapter = adapter_of(method, update_before_predict)
        return run_stream(adapter, adapter.init(self.candidates), self.features)


def store(cache, entry, capacity):
    """Adds an entry `(confidence, ...)` and evicts the least confident one."""
    cache.append(entry)
    cache.sort(key=lambda stored: -stored[0])  # stable: of equal ones, evict the newest
    del cache[capacity:]


class PlainTda:
    """TDA with lists of entries `(confidence, vectors, ...)`."""

    def __init__(self, plain, settings):
        self.plain, self.settings, self.uncertain = plain, settings, 0
        self.positive, self.negative = ([[] for _ in plain.labels] for _ in range(2))

    def offer(self, vectors):
        plain, s = self.plain, self.settings
        p = softmax(plain.static(vectors))
        label, share = int(p.argmax()), entropy(p) / np.log(len(p))
        store(self.positive[label], (1 - share, plain.viewed(vectors, label)), s.capacity)
        if s.entropy_low < share < s.entropy_high:
            entry = (1 - share, vectors, p > s.mask_threshold)
            store(self.negative[label], entry, s.negative_capacity)
            self.uncertain += 1

    def logits(self, vectors):
        plain, s = self.plain, self.settings
        logits = plain.static(vectors)
        for c in plain.labels:
            view = plain.viewed(vectors, c)
            for _, other in self.positive[c]:
                logits[c] += s.alpha * np.exp(-s.beta * (1 - plain.cosine(view, other)))
            for _, other, possible in itertools.chain(*self.negative):
                near = plain.cosine(view, plain.viewed(other, c))
                affinity = s.negative_alpha * np.exp(-s.negative_beta * (1 - near))
                logits[c] -= affinity * possible[c]
        return logits


@pytest.mark.parametrize(
    ("kind", "score", "update_first"),
    cases(
        [("label_free", "global", False), ("per_candidate", "weighted", True)],
        [(*case, first) for case in [*PURLS, ("ridge", "")] for first in (False, True)],
    ),
)
def test_tda_equals_two_lists(kind, score, update_first):
    plain = Plain(kind, score)
    s = TdaSettings(
        capacity=2, negative_capacity=2, entropy_low=0.15, entropy_high=0.9, mask_threshold=0.1
    )
    reference, expected = PlainTda(plain, s), []
    for vectors in plain.vectors:
        if update_first:
            reference.offer(vectors)
        expected.append(reference.logits(vectors))
        if not update_first:
            reference.offer(vectors)
    method = tda(plain.model, plain.variables, s, StreamInfo.of(plain.features))
    state, prediction = plain.run(method, update_first)
    np.testing.assert_allclose(prediction.logits, expected, atol=2e-3)
    lists = reference.positive, reference.negative
    for cache, entries in zip(state.inner_state, lists, strict=True):
        assert cache.filled.sum(axis=1).tolist() == [len(stored) for stored in entries]
        for c, stored in enumerate(entries):
            priority = np.asarray(cache.priority[c])[np.asarray(cache.filled[c])]
            np.testing.assert_allclose(sorted(priority), sorted(e[0] for e in stored), atol=1e-5)
    assert 0 < reference.uncertain < COUNT
    assert max(map(len, reference.positive)) == s.capacity


@pytest.mark.parametrize(
    ("kind", "score"),
    cases([("label_free", "global"), ("ridge", "")], PURLS),
)
def test_skeleton_cache_equals_a_list_of_samples_in_all_granularities(kind, score):
    plain, s = Plain(kind, score), SkeletonCacheSettings(capacity=2, alpha=3.0, beta=4.0)
    embed = plain.model.embedding.embed
    all_vectors = np.asarray(embed(plain.variables, plain.features, plain.candidates), float)
    stored, expected = [[] for _ in plain.labels], []
    for scored, vectors in zip(plain.vectors, all_vectors, strict=True):
        logits = plain.static(scored)
        for c in plain.labels:
            for _, other in stored[c]:
                near = (plain.viewed(vectors, c) * other).sum(axis=-1)  # [G]
                logits[c] += s.alpha * np.exp(-s.beta * (1 - near)).mean()
        expected.append(logits)
        label = int(logits.argmax())
        store(stored[label], (-entropy(softmax(logits)), plain.viewed(vectors, label)), s.capacity)
    method = skeleton_cache(plain.model, plain.variables, s, StreamInfo.of(plain.features))
    state, prediction = plain.run(method)
    np.testing.assert_allclose(prediction.logits, expected, atol=2e-3)
    assert state.inner_state.filled.sum(axis=1).tolist() == list(map(len, stored))
    assert max(map(len, stored)) == s.capacity
    assert all_vectors.shape[2] == plain.candidates.classes.shape[1]


@pytest.mark.parametrize(
    ("kind", "score"),
    cases([("label_free", "weighted"), ("ridge", "")], PURLS),
)
def test_adanpc_equals_a_sorted_list_of_neighbours(kind, score):
    plain = Plain(kind, score)
    s = AdaNpcSettings(neighbours=5, capacity=4, threshold=0.6)
    memory, expected, admitted = [[] for _ in plain.labels], [], []
    for vectors in plain.vectors:
        near = []
        for c in plain.labels:
            view = plain.viewed(vectors, c)
            for other in [plain.classes[c], *(entry[1] for entry in memory[c])]:
                near.append((plain.scale * plain.cosine(view, other), c))
        nearest = sorted(near, reverse=True)[: s.neighbours]
        weights = softmax([one[0] for one in nearest])
        share = np.zeros(len(plain.classes))
        for weight, (_, c) in zip(weights, nearest, strict=True):
            share[c] += weight
        expected.append(np.log(share + 1e-6))
        p = softmax(expected[-1])
        label = int(p.argmax())
        admitted.append(p.max() > s.threshold)
        if admitted[-1]:
            store(memory[label], (p.max(), plain.viewed(vectors, label)), s.capacity)
    state, prediction = plain.run(adanpc(plain.model, plain.variables, s))
    np.testing.assert_array_equal(prediction.admitted, admitted)
    np.testing.assert_allclose(np.exp(prediction.logits), np.exp(expected), atol=2e-3)
    assert state.inner_state.filled.sum(axis=1).tolist() == list(map(len, memory))
    assert 0 < sum(admitted) < COUNT
    assert max(map(len, memory)) == s.capacity


def test_adanpc_starts_as_the_static_method():
    plain = Plain("per_candidate", "global")
    s = AdaNpcSettings(threshold=1.1)  # nothing is ever stored
    _, prediction = plain.run(adanpc(plain.model, plain.variables, s))
    static = np.array([log_softmax(plain.static(vectors)) for vectors in plain.vectors])
    np.testing.assert_allclose(np.exp(prediction.logits), np.exp(static), atol=1e-4)
    assert not prediction.admitted.any()


@pytest.mark.parametrize(("kind", "score"), cases([("per_candidate", "weighted")], PURLS))
def test_calip_equals_its_equations(kind, score):
    plain = Plain(kind, score)
    s = CalipSettings(text_weight=0.8, visual_weight=0.5, sharpness=3.0)
    head = plain.variables["params"]["project"]
    first, second = head["Dense_0"], head["Dense_1"]
    # The row head maps a single token to the same vector in all granularities.
    hidden = np.maximum(np.asarray(plain.features.tokens) @ first["kernel"] + first["bias"], 0)
    tokens = np.asarray(hidden @ second["kernel"] + second["bias"], float)  # [N, S, e]
    tokens /= np.linalg.norm(tokens, axis=-1, keepdims=True)
    expected = []
    for vectors, sample in zip(plain.vectors, tokens, strict=True):
        logits = plain.static(vectors)
        attended_text = np.empty_like(plain.classes)
        pooled = np.empty(plain.classes.shape[1:])
        for r in range(plain.classes.shape[1]):
            cosines = sample @ plain.classes[:, r].T * s.sharpness  # [S, C]
            attended_text[:, r] = softmax(cosines, axis=0).T @ sample
            each = softmax(cosines, axis=1) @ plain.classes[:, r]
            pooled[r] = each.mean(axis=0) + each.max(axis=0)
        for c in plain.labels:
            by_text = plain.cosine(plain.viewed(vectors, c), attended_text[c])
            by_tokens = plain.cosine(pooled, plain.classes[c])
            logits[c] += plain.scale * (s.text_weight * by_text + s.visual_weight * by_tokens)
        expected.append(logits)
    state, prediction = plain.run(calip(plain.model, plain.variables, s))
    np.testing.assert_allclose(prediction.logits, expected, atol=2e-3)
    assert not prediction.admitted.any()
    assert jax.tree.leaves(state.inner_state) == []
    off = calip(plain.model, plain.variables, CalipSettings(0.0, 0.0))
    static = [plain.static(vectors) for vectors in plain.vectors]
    np.testing.assert_allclose(plain.run(off)[1].logits, static, atol=1e-3)
    assert jnp.abs(prediction.logits - jnp.asarray(static)).max() > 0.1
