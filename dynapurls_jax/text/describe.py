"""Writes descriptions of actions by asking a language model the paper's structured questions.

  export OPENAI_API_KEY=... OPENAI_BASE_URL=https://... OPENAI_MODEL=...
  python -m dynapurls_jax.text.describe --classes "wave" "kick a ball" --out mine.json
  python -m dynapurls_jax.text.describe --dataset ntu60 --out ntu60.json --dry-run
  python -m dynapurls_jax.text.describe --classes "wave" --out mine.json --local Qwen/Qwen3-4B

Any OpenAI-compatible endpoint serves (OpenAI's own without OPENAI_BASE_URL). Three questions a
class: overall, body parts, phases (section 3.2.1); what is missing in an answer is asked for again.
A class is written when all of its eight texts are there, never before; classes that the file has
already are left alone, so the same command goes on after an interruption. --dry-run prints the
prompts and what they may cost, and asks nothing. Train with --config.text.descriptions=mine.json.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

from data_pipelines.errors import DataError, unknown
from data_pipelines.dataset_info import KNOWN
from data_pipelines.locks import one_at_a_time
from data_pipelines.paths import data_home
from data_pipelines.progress import progress
from dynapurls_jax.config import GRANULARITIES
from dynapurls_jax.text.descriptions import (
    Descriptions,
    check_descriptions,
    load_descriptions,
)
from dynapurls_jax.text.writing.models import Cached, Endpoint, Local, Model, ModelError
from dynapurls_jax.text.writing.questions import QUESTIONS, read_answer, wording

LETTERS_A_TOKEN = 4  # of English, about
ANSWER_TOKENS = 30  # of one text, about


def main() -> None:
    """Asks, checks, writes."""
    options = _parser().parse_args()
    try:
        sys.exit(_run(options))
    except (DataError, ModelError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on with {options.out}", file=sys.stderr)
        sys.exit(130)


def _positive(kind: type) -> Callable:
    """An argparse type: a number greater than zero."""

    def parse(text: str):
        if kind(text) <= 0:
            raise argparse.ArgumentTypeError(f"expected a number greater than 0, got {text}")
        return kind(text)

    parse.__name__ = kind.__name__  # argparse names it where the text is no number
    return parse


def _parser() -> argparse.ArgumentParser:
    count, rate = _positive(int), _positive(float)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--classes", nargs="+", metavar="NAME", help="actions to describe")
    which.add_argument("--dataset", help=f"all classes of one of {', '.join(KNOWN)}")
    parser.add_argument("--out", type=Path, required=True, help="JSON file, made or added to")
    parser.add_argument("--model", default="", help="model of the endpoint [$OPENAI_MODEL]")
    parser.add_argument("--local", metavar="MODEL", help="a transformers model (needs torch)")
    parser.add_argument("--phrasings", type=count, default=1, help="texts for each granularity [1]")
    parser.add_argument("--attempts", type=count, default=3, help="at one question, at most [3]")
    parser.add_argument("--temperature", type=float, help="[the model's own]")
    parser.add_argument("--max-tokens", type=count, help="of an answer [its own; local: 400]")
    parser.add_argument("--parallel", type=count, default=4, help="requests at a time [4]")
    parser.add_argument(
        "--per-minute",
        type=rate,
        default=60,
        help="new requests at most [60]",
    )
    parser.add_argument("--timeout", type=rate, default=60, help="seconds of a request [60]")
    parser.add_argument("--retries", type=count, default=5, help="of a failed request [5]")
    prices = "dollars for a million tokens of prompts and of answers, for the estimate"
    parser.add_argument("--prices", type=float, nargs=2, metavar=("IN", "OUT"), help=prices)
    parser.add_argument("--dry-run", action="store_true", help="show prompts and cost, ask nothing")
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.dataset and options.dataset not in KNOWN:
        raise unknown("dataset", options.dataset, KNOWN)
    names = list(dict.fromkeys(options.classes or KNOWN[options.dataset][1]))
    written: Descriptions = load_descriptions(options.out) if options.out.exists() else {}
    check_descriptions(written, list(written), options.out)
    wanted = [name for name in names if name not in written]
    prompts = [wording(q, name, q.labels) for name in wanted for q in QUESTIONS]
    if options.dry_run:
        print("\n\n".join(prompts))
    sent = sum(len(prompt) for prompt in prompts) // LETTERS_A_TOKEN * options.phrasings
    received = ANSWER_TOKENS * len(GRANULARITIES) * len(wanted) * options.phrasings
    print(
        f"{len(wanted)} classes to describe, {len(names) - len(wanted)} are in {options.out} "
        f"already; about {len(prompts) * options.phrasings} requests, {sent} tokens of prompts and "
        f"{received} of answers{_cost(options.prices, sent, received)}"
    )
    if options.dry_run or not wanted:
        return 0
    return _write_all(options, wanted, written)


def _cost(prices: list[float] | None, sent: int, received: int) -> str:
    if not prices:
        return ""
    return f", {(sent * prices[0] + received * prices[1]) / 1e6:.4f} dollars"


def _write_all(options: argparse.Namespace, wanted: list[str], written: Descriptions) -> int:
    """Classes side by side; the file is replaced after each that is whole."""
    # Only what was asked for is sent: some models take no temperature, or no limit by this name.
    given = {"temperature": options.temperature, "max_tokens": options.max_tokens}
    settings = {name: value for name, value in given.items() if value is not None}
    model: Model
    if options.local:
        model = Local(options.local, **settings)
    else:
        limits = {"per_minute": options.per_minute, "timeout": options.timeout}
        model = Endpoint(options.model, settings, **limits, retries=options.retries)
    cached = Cached(model, data_home() / "answers", settings)
    failed, sent, received = [], 0, 0
    pool = ThreadPoolExecutor(1 if options.local else options.parallel)
    try:
        with progress("describing classes", len(wanted)) as report:
            jobs = [pool.submit(describe, cached, name, options) for name in wanted]
            for done, (name, job) in enumerate(zip(wanted, jobs, strict=True), 1):
                texts, missing, tokens = job.result()
                sent, received = sent + tokens[0], received + tokens[1]
                if missing:
                    failed.append(f"  {name!r}: no usable text for {', '.join(missing)}")
                else:
                    written[name] = texts
                    _save(options.out, {name: texts}, f"{cached.name}, {date.today()}")
                report(done)
    finally:
        model.stop()  # after an error, threads that are at work must not go on asking
        pool.shutdown(cancel_futures=True)
    print(
        f"{len(wanted) - len(failed)} classes written to {options.out}; {sent} tokens of prompts "
        f"and {received} of answers{_cost(options.prices, sent, received)}"
    )
    if failed:
        print(
            f"not described after {options.attempts} attempts each (the same command asks again):\n"
            + "\n".join(failed),
            file=sys.stderr,
        )
    return 1 if failed else 0


def describe(
    model: Cached, name: str, options: argparse.Namespace
) -> tuple[Mapping[str, str | list[str]], list[str], tuple[int, int]]:
    """All texts of one class.

    Returns:
      Granularity to text (or phrasings), what is missing of it, tokens of prompts and of answers.
    """
    found: dict[str, list[str]] = {granularity: [] for granularity in GRANULARITIES}
    sent = received = 0
    for phrasing in range(options.phrasings):
        for question in QUESTIONS:
            missing, asked = list(question.labels), []
            for attempt in range(options.attempts):
                prompt = wording(question, name, missing)
                asked.append((prompt, phrasing * options.attempts + attempt))
                answer = model.ask(*asked[-1])
                sent, received = sent + answer.tokens_in, received + answer.tokens_out
                read = read_answer(question, answer.text, answer.whole)
                for granularity in [g for g in missing if g in read]:
                    found[granularity].append(read[granularity])
                    missing.remove(granularity)
                if not missing:
                    break
            else:
                for prompt, sample in asked:
                    model.forget(prompt, sample)
    short = [g for g, texts in found.items() if len(texts) < options.phrasings]
    single = options.phrasings == 1
    complete = {g: texts[0] if single and texts else texts for g, texts in found.items()}
    return complete, short, (sent, received)


def _save(file: Path, classes: Descriptions, source: str) -> None:
    """Adds classes to the file; all else that stands there is kept."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(file.with_name(f"{file.name}.lock")):
        record = json.loads(file.read_text("utf-8")) if file.exists() else {}
        before = record.get("provenance", [])
        sources = before if isinstance(before, list) else [before]
        record["provenance"] = sources if source in sources else [*sources, source]
        record["classes"] = {**record.get("classes", {}), **classes}
        temporary = file.with_name(f"{file.name}.tmp")
        temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
        temporary.replace(file)


if __name__ == "__main__":
    main()
