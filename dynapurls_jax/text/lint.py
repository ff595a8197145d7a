"""What is wrong with descriptions, and which classes their words do not tell apart.

  python -m dynapurls_jax.text.lint data_pipelines/descriptions/utd_mhad.json
  python -m dynapurls_jax.text.lint mine.json --tokenizer openai/clip-vit-base-patch32

Errors (status 1): a missing or empty text, one that is too short, or too long for CLIP, one that
two classes share or that a class repeats. After them a report, for reading: the classes whose
words overlap most, and how many words only one class uses.
"""

import argparse
import itertools
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

from data_pipelines.errors import DataError
from dynapurls_jax.config import GRANULARITIES
from dynapurls_jax.text.clip import CLIPEncoder
from dynapurls_jax.text.descriptions import check_descriptions, load_descriptions

FEWEST_WORDS = 4
MOST_TOKENS = 77  # of CLIP, start and end included
TEMPLATE_TOKENS = 8  # left for the template
_WORD = r"[^\W\d_]+"


def estimated_tokens(text: str) -> int:
    """An upper estimate of CLIP's tokens of English, without its vocabulary.

    Two for start and end, one for a word and one more for each five letters of it, one for a digit
    or a mark, one for each byte of what is not ASCII.
    """
    single = sum(not (mark.isalpha() or mark.isspace()) for mark in text)
    foreign = len(text.encode()) - len(text)
    return 2 + single + foreign + sum(1 + len(word) // 5 for word in text.split())


def lint(descriptions: Mapping, count_tokens: Callable[[str], int] = estimated_tokens) -> list[str]:
    """Errors in descriptions, each with its class and granularity.

    Args:
      descriptions: class name to granularity to a text or several.
      count_tokens: of a text, start and end included.
    """
    found, owners = [], defaultdict(list)
    for name in descriptions:
        try:
            ((*row,),) = check_descriptions(descriptions, [name], "it")
        except DataError as error:
            found.append(str(error).partition(": ")[2])
            continue
        for granularity, phrasings in zip(GRANULARITIES, row, strict=True):
            for text in phrasings:
                place = f"class {name!r}, {granularity}"
                owners[" ".join(text.lower().split())].append(place)
                if len(text.split()) < FEWEST_WORDS:
                    found.append(f"{place}: expected {FEWEST_WORDS} words or more, got {text!r}")
                tokens, most = count_tokens(text), MOST_TOKENS - TEMPLATE_TOKENS
                if tokens > most:
                    found.append(f"{place}: expected at most {most} tokens, got {tokens}: {text!r}")
    found += [
        f"{' and '.join(places)}: the same text {text!r}"
        for text, places in owners.items()
        if len(places) > 1
    ]
    return found


def overlaps(descriptions: Mapping) -> tuple[list[tuple[float, str, str]], float]:
    """How much words are shared.

    Returns:
      Pairs of classes by falling similarity (TF-IDF cosine of all their words), and the share of
      words, without those of grammar, that only one class uses.
    """
    names = list(descriptions)
    rows = check_descriptions(descriptions, names, "it")
    joined = [" ".join(itertools.chain.from_iterable(row)).lower() for row in rows]
    vectorizer = TfidfVectorizer(token_pattern=_WORD, stop_words=list(ENGLISH_STOP_WORDS))
    weights = vectorizer.fit_transform(joined)
    similar = (weights @ weights.T).toarray()
    pairs = [
        (float(similar[a, b]), names[a], names[b])
        for a, b in itertools.combinations(range(len(names)), 2)
    ]
    used_by = np.asarray((weights > 0).sum(axis=0)).ravel()
    return sorted(pairs, reverse=True), float((used_by == 1).mean())


def main() -> None:
    """Prints errors and the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", help="JSON with descriptions")
    parser.add_argument("--tokenizer", help="hub id or folder of a CLIP model, for exact counts")
    parser.add_argument("--pairs", type=int, default=10, help="how many near twins to show")
    options = parser.parse_args()
    count = estimated_tokens
    try:
        descriptions = load_descriptions(options.file)
        if options.tokenizer:
            tokenizer = CLIPEncoder(options.tokenizer).tokenizer

            def count(text):
                return len(tokenizer(text)["input_ids"])

        errors = lint(descriptions, count)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print("\n".join(errors) or f"{len(descriptions)} classes: no errors")
    if not errors:
        pairs, single = overlaps(descriptions)
        print(f"{single:.0%} of words are used by one class only; nearest pairs by words:")
        for similarity, one, other in pairs[: options.pairs]:
            print(f"  {similarity:.2f}  {one}  |  {other}")
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
