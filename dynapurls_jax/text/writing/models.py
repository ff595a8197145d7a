"""Language models that write descriptions: an OpenAI-compatible endpoint, or a local model."""

import asyncio
import hashlib
import json
import os
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_pipelines import stored
from data_pipelines.errors import shortened

LARGEST_REPLY = 2**20  # bytes; an answer has some hundreds


class ModelError(RuntimeError):
    """The model gives no answer; the message explains what to do."""


class Stopped(ModelError):
    """`stop` was called: no further request is made."""


@dataclass(frozen=True)
class Answer:
    """The answer of a model to a prompt.

    Attributes:
      finished: False if the answer was truncated.
      prompt_tokens, answer_tokens: as counted by the model; 0 from the cache.
    """

    text: str
    finished: bool
    prompt_tokens: int = 0
    answer_tokens: int = 0


class Model:
    """A language model; thread-safe.

    Attributes:
      name: of the model.
      location: the URL of the endpoint, or "local".
    """

    def __init__(self, name: str, location: str):
        self.name, self.location = name, location
        self._stopped = threading.Event()

    def answer(self, prompt: str, sample: int) -> Answer:
        """The answer number `sample` to a prompt."""
        raise NotImplementedError

    def stop(self) -> None:
        """Ends all requests, of all threads, with `Stopped`."""
        self._stopped.set()


class Endpoint(Model):
    """A model behind an OpenAI-compatible HTTP interface."""

    def __init__(
        self,
        name: str,
        settings: dict[str, Any],
        *,
        per_minute: float,
        timeout: float,
        retries: int,
    ):
        """Makes the client of `OPENAI_BASE_URL` with `OPENAI_API_KEY`.

        Args:
          name: of the model; empty for `OPENAI_MODEL`.
          settings: of a request, such as its temperature.
          per_minute: requests at most, without the client's retries.
          timeout: seconds without a byte of the reply; a request ends after `retries + 1` times as
            many, its retries and pauses included.
          retries: number of retries after timeouts, broken connections, 429 and 5xx, with growing
            pauses or those of the server.

        Raises:
          ModelError: the package openai, the key or the name is missing.
        """
        try:
            import openai
        except ModuleNotFoundError as error:
            raise ModelError("an endpoint needs the package openai: pip install openai") from error
        name = name or os.environ.get("OPENAI_MODEL", "")
        if not name:
            raise ModelError("no model: give --model, or set OPENAI_MODEL")
        if not os.environ.get("OPENAI_API_KEY"):
            raise ModelError(
                "no key: set OPENAI_API_KEY (to any value, if the endpoint needs none), and "
                "OPENAI_BASE_URL for an endpoint other than OpenAI's"
            )
        self._openai = openai
        self._timeout, self._retries = timeout, retries
        self._most_seconds = timeout * (retries + 1)
        with openai.OpenAI() as client:
            super().__init__(name, str(client.base_url))
        self._settings = settings
        self._pause, self._next, self._lock = 60 / per_minute, 0.0, threading.Lock()

    def answer(self, prompt: str, sample: int) -> Answer:
        """See `Model`; a reply that is no chat completion is requested once more.

        Raises:
          ModelError: the endpoint rejects the request, or fails after all retries.
        """
        for attempt in range(2):
            self._wait()
            try:
                request = self._request(prompt, sample)
                return asyncio.run(asyncio.wait_for(request, self._most_seconds))
            except self._openai.OpenAIError as error:  # after the client's retries
                raise ModelError(f"{self.location}: {shortened(str(error))}") from error
            except TimeoutError as error:
                reason = f"no whole reply within {self._most_seconds:g} seconds"
                raise ModelError(f"{self.location}: {reason}") from error
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                if attempt:
                    raise ModelError(
                        f"{self.location}: expected a chat completion, got none, twice ({error})"
                    ) from error
        raise AssertionError("unreachable")

    async def _request(self, prompt: str, sample: int) -> Answer:
        http = self._openai.DefaultAsyncHttpxClient(event_hooks={"response": [_read_capped]})
        plain = {"Accept-Encoding": "identity"}  # a packed reply could unpack to gigabytes
        async with self._openai.AsyncOpenAI(
            timeout=self._timeout,
            max_retries=self._retries,
            http_client=http,
            default_headers=plain,
        ) as client:
            reply: Any = await client.chat.completions.create(
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
        """Sleeps until the rate limit permits a request."""
        with self._lock:
            start = max(time.monotonic(), self._next)
            self._next = start + self._pause
        if self._stopped.wait(max(0.0, start - time.monotonic())):
            raise Stopped(f"{self.location}: stopped")


async def _read_capped(response: Any) -> None:
    """Reads the body of a reply, of which the client would read any number of bytes."""
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > LARGEST_REPLY:
            raise ValueError(f"expected a reply of at most {LARGEST_REPLY} bytes")
    response._content = bytes(body)  # as its own `aread` does


class Local(Model):
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
        super().__init__(name, "local")
        self._network = network.to("cuda" if torch.cuda.is_available() else "cpu")
        self._settings: dict[str, Any] = {"max_new_tokens": max_tokens}
        self._settings |= {"do_sample": temperature > 0}
        self._settings |= {"temperature": temperature} if temperature > 0 else {}
        self._lock = threading.Lock()

    def answer(self, prompt: str, sample: int) -> Answer:
        import torch

        chat = bool(self._tokenizer.chat_template)
        if chat:
            prompt = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,  # ignored by templates without this variable
            )
        # A chat template adds the special tokens itself.
        inputs = self._tokenizer(prompt, return_tensors="pt", add_special_tokens=not chat)
        with self._lock, torch.inference_mode():
            if self._stopped.is_set():
                raise Stopped("local model: stopped")
            torch.manual_seed(sample)
            ids = self._network.generate(**inputs.to(self._network.device), **self._settings)[0]
        answer = ids[inputs["input_ids"].shape[1] :]
        finished = len(answer) < self._settings["max_new_tokens"]
        text = self._tokenizer.decode(answer, skip_special_tokens=True)
        return Answer(text, finished, len(ids) - len(answer), len(answer))


class Cached:
    """A model with a cache of its answers on disk."""

    def __init__(self, model: Model, folder: Path, settings: dict):
        """Caches answers in `folder`.

        Args:
          settings: JSON-able; part of the key of an answer.
        """
        self._model, self._folder, self.name = model, folder, model.name
        self._key = settings | {"model": model.name, "location": model.location}

    def answer(self, prompt: str, sample: int) -> Answer:
        """See `Model`; an answer from the cache has no token counts."""
        file = self._file(prompt, sample)
        try:
            record = stored.read_json(file)
            return Answer(record["text"], record["finished"])
        except (FileNotFoundError, stored.DamagedError):
            return self._model.answer(prompt, sample)

    def keep(self, prompt: str, sample: int, answer: Answer) -> None:
        """Puts a usable answer into the cache."""
        stored.write_json(self._file(prompt, sample), asdict(answer) | {"prompt": prompt})

    def _file(self, prompt: str, sample: int) -> Path:
        key = json.dumps([self._key, prompt, sample])
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
