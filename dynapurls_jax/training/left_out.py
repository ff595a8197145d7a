"""Leave-one-corpus-out evaluation of the universal model."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from data_pipelines.logs import log
from dynapurls_jax.evaluation.settings import EvalSettings
from dynapurls_jax.evaluation.streams import StreamInputs, predict_streams, stream_order
from dynapurls_jax.evaluation.tasks import StreamSetup
from dynapurls_jax.training.corpora import EncodedCorpus
from dynapurls_jax.training.none_of_these import BestLogits, draw_actions, rates, threshold_of
from dynapurls_jax.training.universal import UniversalFit
from dynapurls_jax.zero_shot.base import Variables, ZeroShotMethod
from dynapurls_jax.zero_shot.registry import make_method

_COLUMNS = (
    "corpus | classes | clips | chance | ridge | clip by clip | centred | refined | together | "
    "together, no name in the lexicon | rejected | none found | AUROC"
)
_CHUNK = 8


class LeftOut:
    """For each corpus, fits a model on all others and tests it on that corpus."""

    def __init__(self, universal: UniversalFit, corpora: Sequence[EncodedCorpus]):
        self.universal, self.corpora = universal, corpora
        self._draws: dict[str, list[BestLogits]] = {}

    def none_below(self) -> float:
        """The rejection threshold: a clip with a lower best logit shows none of the actions."""
        return threshold_of([self.draws(corpus) for corpus in self.corpora])

    def draws(self, corpus: EncodedCorpus) -> list[BestLogits]:
        """Best logits for random halves of the corpus's classes as candidates (`draw_actions`)."""
        if corpus.name not in self._draws:
            method, variables = self.universal.method, self.universal.fit(self._others(corpus))
            features = method.encode(variables, jnp.asarray(corpus.tokens))
            rows = self.universal.rows(corpus.class_names)[:, None]
            logits = method.score(variables, features, method.bind(variables, jnp.asarray(rows)))
            self._draws[corpus.name] = draw_actions(np.asarray(logits), corpus.labels)
        return self._draws[corpus.name]

    def table(self) -> str:
        """Accuracies and rejection rates of each corpus, %, and their means, as Markdown."""
        columns = _COLUMNS.count("|") + 1
        lines = [f"| {_COLUMNS} |\n", "|---" + "|--:" * (columns - 1) + "|\n"]
        threshold, rows = self.none_below(), []
        for corpus in self.corpora:
            none = 100 * rates(threshold, [self.draws(corpus)])[0]
            rows.append([*self.accuracies(corpus), *none])
            classes = len(corpus.class_names)
            sizes = f"{classes} | {len(corpus.labels)} | {100 / classes:.1f}"
            lines.append(f"| {corpus.name} | {sizes} | {_cells(rows[-1])} |\n")
            log.info(lines[-1].rstrip())
        lines.append(f"| mean | | | | {_cells(np.mean(rows, axis=0))} |\n")
        return "".join(lines)

    def accuracies(self, corpus: EncodedCorpus) -> list[float]:
        """Macro accuracies of one corpus, %, in the order of the table's columns."""
        universal, others = self.universal, self._others(corpus)
        fitted = universal.fit(others)
        own = {_plain(name) for name in corpus.class_names}
        names = [name for name in universal.lexicon.names if _plain(name) in own]
        without = universal.fit(others, names)
        every = [(fitted, kind) for kind in ("static", "centred", "recentred", "together")]
        return [
            self._ridge(corpus, others),
            *(
                self._accuracy(corpus, universal.method, variables, kind)
                for variables, kind in [*every, (without, "together")]
            ),
        ]

    def _others(self, corpus: EncodedCorpus) -> list[EncodedCorpus]:
        return [other for other in self.corpora if other is not corpus]

    def _ridge(self, corpus: EncodedCorpus, others: list[EncodedCorpus]) -> float:
        """Macro accuracy of the closed-form baseline, %, with features centred along the stream."""
        config = self.universal.config.copy_and_resolve_references()
        config.method.name = "ridge"
        method = make_method(config.method, self.universal.shapes)
        offsets = np.cumsum([0, *(len(c.class_names) for c in others)])
        labels = np.concatenate([c.labels + n for c, n in zip(others, offsets, strict=False)])
        tokens = np.concatenate([c.tokens for c in others])
        text = np.concatenate([self.universal.rows(c.class_names) for c in others])[:, None]
        assert method.fit is not None
        fitted = jax.jit(method.fit)(jax.random.key(0), tokens, labels, text)
        return self._accuracy(corpus, method, fitted, "centred")

    def _accuracy(
        self, corpus: EncodedCorpus, method: ZeroShotMethod, variables: Variables, kind: str
    ) -> float:
        """Macro accuracy on one shuffled stream, %; for "together" on its second pass."""
        section = self.universal.config.copy_and_resolve_references().adapter
        section.name = "static" if kind == "static" else "recentred"
        section.recentred.gain = 0.0 if kind == "centred" else section.recentred.gain
        setup = StreamSetup(method, FrozenConfigDict(section), EvalSettings(chunk=_CHUNK))
        features = method.encode(variables, jnp.asarray(corpus.tokens))
        rows = self.universal.rows(corpus.class_names)[:, None]
        candidates = method.bind(variables, jnp.asarray(rows))
        stream = setup.adapter(setup.method(variables, features, samples=None))
        order = stream_order("shuffled", corpus.labels, 0, 0)
        rounds = np.tile(order, 2 if kind == "together" else 1)
        inputs = StreamInputs(features, candidates)
        found = predict_streams(stream, inputs, [rounds], 0, chunk=_CHUNK)
        truth = corpus.labels[order]
        hits = found.predicted[0][-len(order) :] == truth
        return 100 * float(np.mean([hits[truth == c].mean() for c in np.unique(truth)]))


def _cells(values: Sequence[float] | np.ndarray) -> str:
    return " | ".join(f"{value:.1f}" for value in values)


def _plain(name: str) -> str:
    """A name in lower case, without punctuation."""
    return "".join(c for c in name.lower().replace("-", " ") if c.isalpha() or c == " ").strip()
