"""Checks class descriptions, and lists classes with similar words.

  python -m dynapurls_jax.text.lint data_pipelines/descriptions/utd_mhad.json
  python -m dynapurls_jax.text.lint mine.json --tokenizer openai/clip-vit-base-patch32

Errors (exit status 1): a text that is missing, empty, too short, too long for CLIP, or repeated in
the file. If there are no errors, a report follows: the pairs of classes with the most similar
words, and the fraction of words that only one class uses.
"""

import itertools
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

from data_pipelines.errors import DataError
from data_pipelines.sketches import parse_sketch
from dynapurls_jax.commands import parser_of
from dynapurls_jax.text.descriptions import check_descriptions, load_descriptions
from dynapurls_jax.text.granularities import GRANULARITIES

MIN_WORDS = 4
MAX_TOKENS = 77  # of CLIP, start and end included
TEMPLATE_TOKENS = 8  # reserved for the template
_WORD = r"[^\W\d_]+"


def estimated_tokens(text: str) -> int:
    """An upper estimate of the number of CLIP tokens of an English text, without a vocabulary.

    Two for start and end, one for each word and one more for every five letters of it, one for each
    digit or punctuation mark, one for each byte beyond ASCII.
    """
    single = sum(not (mark.isalpha() or mark.isspace()) for mark in text)
    foreign = len(text.encode()) - len(text)
    return 2 + single + foreign + sum(1 + len(word) // 5 for word in text.split())


def lint(descriptions: Mapping, count_tokens: Callable[[str], int] = estimated_tokens) -> list[str]:
    """Errors in descriptions and sketches, each with its class and granularity.

    Args:
      descriptions: class name to granularity to a text or several.
      count_tokens: text to its number of tokens, with start and end.
    """
    errors, places = [], defaultdict(list)
    for name in descriptions:
        try:
            (texts,) = check_descriptions(descriptions, [name], "it")
            if "sketch" in descriptions[name]:
                parse_sketch(descriptions[name]["sketch"], name, "it")
        except DataError as error:
            errors.append(str(error).partition(": ")[2])
            continue
        for granularity, phrasings in zip(GRANULARITIES, texts, strict=True):
            for text in phrasings:
                place = f"class {name!r}, {granularity}"
                places[" ".join(text.lower().split())].append(place)
                errors += [f"{place}: {error}" for error in _length_errors(text, count_tokens)]
    repeated = {text: where for text, where in places.items() if len(where) > 1}
    return errors + [
        f"{' and '.join(where)}: the same text {text!r}" for text, where in repeated.items()
    ]


def _length_errors(text: str, count_tokens: Callable[[str], int]) -> list[str]:
    errors = []
    if len(text.split()) < MIN_WORDS:
        errors.append(f"expected {MIN_WORDS} words or more, got {text!r}")
    tokens, limit = count_tokens(text), MAX_TOKENS - TEMPLATE_TOKENS
    if tokens > limit:
        errors.append(f"expected at most {limit} tokens, got {tokens}: {text!r}")
    return errors


def overlaps(descriptions: Mapping) -> tuple[list[tuple[float, str, str]], float]:
    """Similarity of classes by the words of their descriptions.

    Returns:
      Pairs of classes `(similarity, name, name)`, most similar first (cosine of TF-IDF vectors of
      all words of a class), and the fraction of words, without stop words, that only one class
      uses.

    Raises:
      DataError: a text is missing.
    """
    names = list(descriptions)
    texts = check_descriptions(descriptions, names, "it")
    joined = [
        " ".join(itertools.chain.from_iterable(texts_of_class)).lower() for texts_of_class in texts
    ]
    vectorizer = TfidfVectorizer(token_pattern=_WORD, stop_words=list(ENGLISH_STOP_WORDS))
    weights = vectorizer.fit_transform(joined)
    similarity = (weights @ weights.T).toarray()
    pairs = [
        (float(similarity[a, b]), names[a], names[b])
        for a, b in itertools.combinations(range(len(names)), 2)
    ]
    classes_per_word = np.asarray((weights > 0).sum(axis=0)).ravel()
    return sorted(pairs, reverse=True), float((classes_per_word == 1).mean())


def main() -> None:
    """Prints errors, or the report."""
    parser = parser_of(__doc__)
    parser.add_argument("file", help="JSON file of descriptions")
    parser.add_argument("--tokenizer", help="hub id or folder of a CLIP model, for exact counts")
    parser.add_argument("--pairs", type=int, default=10, help="number of pairs in the report [10]")
    options = parser.parse_args()
    count_tokens = estimated_tokens
    try:
        descriptions = load_descriptions(options.file)
        if options.tokenizer:
            from dynapurls_jax.text.clip import CLIPEncoder

            tokenizer = CLIPEncoder(options.tokenizer).tokenizer

            def count_tokens(text):
                return len(tokenizer(text)["input_ids"])

        errors = lint(descriptions, count_tokens)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print("\n".join(errors) or f"{len(descriptions)} classes: no errors")
    if not errors:
        pairs, share = overlaps(descriptions)
        print(f"{share:.0%} of words occur in one class only; most similar pairs by words:")
        for similarity, one, other in pairs[: options.pairs]:
            print(f"  {similarity:.2f}  {one}  |  {other}")
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
