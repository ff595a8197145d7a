"""Writes descriptions of actions with a language model and the paper's structured questions.

  export OPENAI_API_KEY=... OPENAI_BASE_URL=https://... OPENAI_MODEL=...
  dynapurls describe --classes "wave" "kick a ball" --out=mine.json
  dynapurls describe --dataset=ntu60 --out=ntu60.json --dry_run
  dynapurls describe --classes "wave" --out=mine.json --local=Qwen/Qwen3-4B

Works with any OpenAI-compatible endpoint (OpenAI's own without OPENAI_BASE_URL). Each class takes
three questions: overall, body parts, phases (section 3.2.1); missing texts of an answer are
requested again. A class is written once all of its eight texts are complete. Classes that are
already in the file are skipped, so the same command resumes after an interruption. --dry_run prints
the prompts and an estimate of the cost, and makes no request.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from data_pipelines.atomic import write_text
from data_pipelines.builders.registry import PUBLIC, public_dataset
from data_pipelines.errors import DataError, check_positive
from data_pipelines.locks import one_at_a_time
from data_pipelines.paths import data_home
from data_pipelines.progress import progress
from dynapurls_jax.commands import errors_in_words, parser_of
from dynapurls_jax.text.descriptions import (
    Descriptions,
    check_descriptions,
    load_descriptions,
)
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.writing.models import Cached, Endpoint, Local, Model, ModelError
from dynapurls_jax.text.writing.questions import QUESTIONS, parse_answer, prompt_of

LETTERS_PER_TOKEN = 4  # of English, approximately
TOKENS_PER_TEXT = 30  # approximately


class ClassAnswer(NamedTuple):
    """The texts of one class.

    Attributes:
      texts: granularity to text, or to several phrasings.
      missing: granularities without enough usable texts.
      prompt_tokens, answer_tokens: in total.
    """

    texts: Mapping[str, str | list[str]]
    missing: list[str]
    prompt_tokens: int
    answer_tokens: int


def main() -> None:
    """Runs the command."""
    options = _parser().parse_args()
    with errors_in_words((DataError, ModelError, OSError, ValueError)):
        sys.exit(_run(options))


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    classes = parser.add_mutually_exclusive_group(required=True)
    classes.add_argument("--classes", nargs="+", metavar="NAME", help="actions to describe")
    classes.add_argument("--dataset", help=f"all classes of one of {', '.join(PUBLIC)}")
    parser.add_argument("--out", type=Path, required=True, help="JSON file, new or to extend")
    parser.add_argument("--model", default="", help="model of the endpoint [$OPENAI_MODEL]")
    parser.add_argument("--local", metavar="MODEL", help="a transformers model (needs torch)")
    parser.add_argument("--phrasings", type=int, default=1, help="texts per granularity [1]")
    parser.add_argument("--attempts", type=int, default=3, help="per question, at most [3]")
    parser.add_argument("--temperature", type=float, help="[the model's default]")
    parser.add_argument("--max_tokens", type=int, help="per answer [the model's; local: 400]")
    parser.add_argument("--parallel", type=int, default=4, help="simultaneous requests [4]")
    parser.add_argument("--per_minute", type=float, default=60, help="requests, at most [60]")
    parser.add_argument("--timeout", type=float, default=60, help="seconds per attempt [60]")
    parser.add_argument("--retries", type=int, default=5, help="of a failed request [5]")
    prices = "dollars per million tokens of prompts and of answers, for the estimate"
    parser.add_argument("--prices", type=float, nargs=2, metavar=("IN", "OUT"), help=prices)
    parser.add_argument("--dry_run", action="store_true", help="print prompts and cost only")
    return parser


def _run(options: argparse.Namespace) -> int:
    limits = ("phrasings", "attempts", "max_tokens", "parallel", "per_minute", "timeout", "retries")
    check_positive(**{name: getattr(options, name) for name in limits})
    classes = options.classes or public_dataset(options.dataset).CLASSES
    names = list(dict.fromkeys(classes))
    written: Descriptions = load_descriptions(options.out) if options.out.exists() else {}
    check_descriptions(written, list(written), options.out)
    remaining = [name for name in names if name not in written]
    prompts = [prompt_of(q, name, q.labels) for name in remaining for q in QUESTIONS]
    if options.dry_run:
        print("\n\n".join(prompts))
    letters = sum(len(prompt) for prompt in prompts)
    prompt_tokens = letters // LETTERS_PER_TOKEN * options.phrasings
    answer_tokens = TOKENS_PER_TEXT * len(GRANULARITIES) * len(remaining) * options.phrasings
    print(
        f"{len(remaining)} classes to describe, {len(names) - len(remaining)} already in "
        f"{options.out}; about {len(prompts) * options.phrasings} requests, "
        f"{_usage(prompt_tokens, answer_tokens, options.prices)}"
    )
    if options.dry_run:
        print("next: the same command without --dry_run")
        return 0
    status = _describe_all(options, remaining) if remaining else 0
    print(f"next: {_next_command(options)}")
    return status


def _next_command(options: argparse.Namespace) -> str:
    """The command that uses the descriptions."""
    if options.dataset:
        return (
            f"dynapurls train --config={options.dataset} --config.text.descriptions={options.out}"
        )
    return f"dynapurls predict --clips=my_clips --actions_file={options.out}"


def _usage(prompt_tokens: int, answer_tokens: int, prices: list[float] | None) -> str:
    """Numbers of tokens, and their cost if prices are known."""
    usage = f"{prompt_tokens} tokens of prompts and {answer_tokens} of answers"
    if not prices:
        return usage
    dollars = (prompt_tokens * prices[0] + answer_tokens * prices[1]) / 1e6
    return f"{usage}, {dollars:.4f} dollars"


def _describe_all(options: argparse.Namespace, names: list[str]) -> int:
    """Describes classes in parallel, and saves each when it is complete.

    Returns:
      The exit status: 1 if a class has no complete description.
    """
    model = _make_model(options)
    pool = ThreadPoolExecutor(1 if options.local else options.parallel)
    failed, prompt_tokens, answer_tokens = [], 0, 0
    try:
        cached = Cached(model, data_home() / "answers", _request_settings(options))
        with progress("describing classes", len(names)) as report:
            jobs = [
                pool.submit(describe, cached, name, options.phrasings, options.attempts)
                for name in names
            ]
            for done, (name, job) in enumerate(zip(names, jobs, strict=True), 1):
                answer = job.result()
                prompt_tokens += answer.prompt_tokens
                answer_tokens += answer.answer_tokens
                if answer.missing:
                    failed.append(f"  {name!r}: no usable text for {', '.join(answer.missing)}")
                else:
                    source = f"{model.name}, {date.today()}"
                    _save(options.out, {name: answer.texts}, source)
                report(done)
    finally:
        model.stop()  # after an error, running threads make no further requests
        pool.shutdown(cancel_futures=True)
    print(
        f"{len(names) - len(failed)} classes written to {options.out}; "
        f"{_usage(prompt_tokens, answer_tokens, options.prices)}"
    )
    if failed:
        print(
            f"no description after {options.attempts} attempts each (the same command retries):\n"
            + "\n".join(failed),
            file=sys.stderr,
        )
    return 1 if failed else 0


def _request_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of a request, without those left to the model: not all models take them."""
    settings = {"temperature": options.temperature, "max_tokens": options.max_tokens}
    return {name: value for name, value in settings.items() if value is not None}


def _make_model(options: argparse.Namespace) -> Model:
    settings = _request_settings(options)
    if options.local:
        return Local(options.local, **settings)
    return Endpoint(
        options.model,
        settings,
        per_minute=options.per_minute,
        timeout=options.timeout,
        retries=options.retries,
    )


def describe(model: Cached, name: str, phrasings: int, attempts: int) -> ClassAnswer:
    """The texts of one class.

    Args:
      name: of the action.
      phrasings: texts per granularity.
      attempts: answers to one question, at most.
    """
    found: dict[str, list[str]] = {granularity: [] for granularity in GRANULARITIES}
    prompt_tokens = answer_tokens = 0
    for phrasing in range(phrasings):
        for question in QUESTIONS:
            missing = list(question.labels)
            for attempt in range(attempts):
                prompt, sample = prompt_of(question, name, missing), phrasing * attempts + attempt
                answer = model.answer(prompt, sample)
                prompt_tokens += answer.prompt_tokens
                answer_tokens += answer.answer_tokens
                texts = parse_answer(question, answer.text, answer.finished)
                if texts:
                    model.keep(prompt, sample, answer)
                for granularity in [g for g in missing if g in texts]:
                    found[granularity].append(texts[granularity])
                    missing.remove(granularity)
                if not missing:
                    break
    incomplete = [g for g, texts in found.items() if len(texts) < phrasings]
    single = phrasings == 1
    complete = {g: texts[0] if single and texts else texts for g, texts in found.items()}
    return ClassAnswer(complete, incomplete, prompt_tokens, answer_tokens)


def _save(file: Path, classes: Descriptions, source: str) -> None:
    """Adds classes to the file, whose other content stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(file.with_name(f"{file.name}.lock")):
        record = json.loads(file.read_text("utf-8")) if file.exists() else {}
        sources = record.get("provenance", [])
        sources = sources if isinstance(sources, list) else [sources]
        record["provenance"] = sources if source in sources else [*sources, source]
        record["classes"] = {**record.get("classes", {}), **classes}
        write_text(file, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
