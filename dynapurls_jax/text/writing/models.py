"""Language models that are asked: behind an OpenAI-compatible endpoint, or on this machine."""

import hashlib
import json
import os
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


class ModelError(RuntimeError):
    """The model cannot be asked; says what to do."""


class Stopped(ModelError):
    """The run has ended for another reason: nothing more is asked."""


@dataclass(frozen=True)
class Answer:
    """What a model said.

    Attributes:
      whole: whether it came to an end by itself, and was not cut off.
      tokens_in, tokens_out: of prompt and answer, as the model counted them.
    """

    text: str
    whole: bool
    tokens_in: int = 0
    tokens_out: int = 0


@runtime_checkable
class Model(Protocol):
    """Something that answers prompts."""

    name: str

    @property
    def place(self) -> str:
        """Where the model is."""
        ...

    def ask(self, prompt: str, sample: int) -> Answer:
        """The `sample`-th answer to a prompt."""
        ...

    def stop(self) -> None:
        """No further answer is asked for, by whatever thread."""
        ...


class Endpoint:
    """A model behind an OpenAI-compatible HTTP interface; safe to ask from several threads."""

    def __init__(
        self,
        name: str,
        settings: dict[str, Any],
        per_minute: float,
        timeout: float,
        retries: int,
    ):
        """Connects to `OPENAI_BASE_URL` with `OPENAI_API_KEY`.

        Args:
          name: of the model; empty for `OPENAI_MODEL`.
          settings: of a request, such as its temperature.
          per_minute: requests at most, those not counted that the client repeats.
          timeout: seconds of one request.
          retries: after timeouts, broken connections, 429 and 5xx, with growing pauses or as long
            as the server asks.

        Raises:
          ModelError: the package openai, the key or the name is missing.
        """
        try:
            import openai
        except ModuleNotFoundError as error:
            raise ModelError(
                "asking an endpoint needs the package openai: pip install 'dynapurls-jax[describe]'"
            ) from error
        self.name = name or os.environ.get("OPENAI_MODEL", "")
        if not self.name:
            raise ModelError("no model: give --model, or set OPENAI_MODEL")
        if not os.environ.get("OPENAI_API_KEY"):
            raise ModelError(
                "no key: set OPENAI_API_KEY (to anything, if the endpoint needs none), and "
                "OPENAI_BASE_URL for an endpoint other than OpenAI's"
            )
        self._openai = openai
        self._client: Any = openai.OpenAI(timeout=timeout, max_retries=retries)
        self._settings = settings
        self._pause, self._next, self._lock = 60 / per_minute, 0.0, threading.Lock()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """No further request is made, by whatever thread."""
        self._stopped.set()

    def ask(self, prompt: str, sample: int) -> Answer:
        """See `Model`.

        Raises:
          ModelError: the endpoint refuses, or still fails after all retries.
        """
        for last in (False, True):  # what is no chat completion is asked for once more
            self._wait()
            try:
                return self._request(prompt, sample)
            except self._openai.OpenAIError as error:  # the client has repeated what it can
                raise ModelError(f"{self._client.base_url}: {error}") from error
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                if last:
                    reason = f"expected a chat completion, got something else, twice ({error})"
                    raise ModelError(f"{self._client.base_url}: {reason}") from error
        raise AssertionError("unreachable")

    def _request(self, prompt: str, sample: int) -> Answer:
        reply = self._client.chat.completions.create(
            model=self.name,
            messages=[{"role": "user", "content": prompt}],
            seed=sample,
            **self._settings,
        )
        choice, usage = reply.choices[0], reply.usage
        return Answer(
            choice.message.content or "",
            choice.finish_reason == "stop",
            usage.prompt_tokens if usage else 0,
            usage.completion_tokens if usage else 0,
        )

    def _wait(self) -> None:
        """Until the next request may be made."""
        with self._lock:
            start = max(time.monotonic(), self._next)
            self._next = start + self._pause
        if self._stopped.wait(max(0.0, start - time.monotonic())):
            raise Stopped(f"{self._client.base_url}: stopped")

    @property
    def place(self) -> str:
        """Where the model is asked."""
        return str(self._client.base_url)


class Local:
    """A model of `transformers` on this machine (needs torch)."""

    def __init__(self, name: str, temperature: float = 1.0, max_tokens: int = 400):
        """Loads a model by hub id or folder.

        Raises:
          ModelError: torch or the model is missing.
        """
        try:
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer

            self._tokenizer: Any = AutoTokenizer.from_pretrained(name)
            network: Any = AutoModelForCausalLM.from_pretrained(name, dtype="auto")
        except (ImportError, OSError, ValueError) as error:
            raise ModelError(f"local model {name}: {error}") from error
        self._network = network.to("cuda" if torch.cuda.is_available() else "cpu")
        self.name = name
        self._settings: dict[str, Any] = {"max_new_tokens": max_tokens}
        self._settings |= {"do_sample": temperature > 0}
        self._settings |= {"temperature": temperature} if temperature > 0 else {}
        self._lock, self._stopped = threading.Lock(), threading.Event()

    @property
    def place(self) -> str:
        """Where the model is."""
        return "local"

    def stop(self) -> None:
        """No further answer is begun."""
        self._stopped.set()

    def ask(self, prompt: str, sample: int) -> Answer:
        """See `Model`."""
        import torch

        chat = bool(self._tokenizer.chat_template)
        if chat:
            prompt = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,  # a variable of the template; those without it ignore it
            )
        # A chat template has the special tokens in it already.
        given = self._tokenizer(prompt, return_tensors="pt", add_special_tokens=not chat)
        with self._lock, torch.inference_mode():
            if self._stopped.is_set():
                raise Stopped("local model: stopped")
            torch.manual_seed(sample)
            ids = self._network.generate(**given.to(self._network.device), **self._settings)[0]
        said = ids[given["input_ids"].shape[1] :]
        whole = len(said) < self._settings["max_new_tokens"]
        text = self._tokenizer.decode(said, skip_special_tokens=True)
        return Answer(text, whole, len(ids) - len(said), len(said))


class Cached:
    """Another model, whose answers are kept on disk until they are forgotten."""

    def __init__(self, model: Model, folder: Path, settings: dict):
        """Keeps answers in `folder`.

        Args:
          settings: JSON-able; answers of other settings are other answers.
        """
        self._model, self._folder, self.name = model, folder, model.name
        self._settings = settings | {"model": model.name, "place": model.place}

    def ask(self, prompt: str, sample: int) -> Answer:
        """See `Model`; an answer from disk counts no tokens."""
        file = self._file(prompt, sample)
        if file.exists():
            kept = json.loads(file.read_text("utf-8"))
            return Answer(kept["text"], kept["whole"])
        answer = self._model.ask(prompt, sample)
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
        temporary.write_text(json.dumps(asdict(answer) | {"prompt": prompt}), "utf-8")
        temporary.replace(file)
        return answer

    def forget(self, prompt: str, sample: int) -> None:
        """Drops an answer that was of no use, so that it is asked for again."""
        self._file(prompt, sample).unlink(missing_ok=True)

    def _file(self, prompt: str, sample: int) -> Path:
        key = json.dumps([self._settings, prompt, sample])
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
