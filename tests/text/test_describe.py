"""Asking a language model for descriptions: a real HTTP server that misbehaves, strict reading."""

import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data_pipelines.paths import data_home
from dynapurls_jax.config import GRANULARITIES
from dynapurls_jax.text import describe
from dynapurls_jax.text.descriptions import check_descriptions, load_descriptions
from dynapurls_jax.text.lint import lint
from dynapurls_jax.text.writing.models import Local, ModelError
from dynapurls_jax.text.writing.questions import QUESTIONS, read_answer, wording

PARTS = QUESTIONS[1]


def obedient(prompt):
    """An answer in the form that a prompt asks for."""
    name = re.search("Action: (.*)", prompt)[1]
    wanted = re.findall(r"^(.*): \.\.\.$", prompt, re.M)
    return "\n".join(f"{label}: moves as in {name} for {label.split()[0]}." for label in wanted)


class Endpoint(ThreadingHTTPServer):
    """Answers as `script` says, request by request; then obediently."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.lock = [], [], threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A client that has hung up is what some tests want."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def do_POST(self):
        """A chat completion, or what the script wants."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = asked["messages"][0]["content"]
        with self.server.lock:
            self.server.requests.append((time.monotonic(), asked))
            act = self.server.script.pop(0) if self.server.script else "obey"
        if isinstance(act, int):
            return self.reply(act, b'{"error": {"message": "as the script says"}}')
        if act == "hang":
            time.sleep(4)
        if act == "garbage":
            return self.reply(200, b"<html>busy</html>")
        text, reason = obedient(prompt), "stop"
        if act == "truncate":
            text, reason = text[: -len(text.splitlines()[-1]) // 2], "length"
        elif act == "echo":
            text = "\n".join(prompt.splitlines()[-text.count("\n") - 1 :])
        elif act == "omit":
            text = "\n".join(text.splitlines()[:-1])
        choice = {"index": 0, "finish_reason": reason}
        choice["message"] = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
        whole = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
        return self.reply(200, json.dumps(whole | {"choices": [choice], "usage": usage}).encode())

    def reply(self, status, body):
        """Sends it."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("retry-after-ms", "10")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Silence."""


@pytest.fixture
def endpoint(monkeypatch, tmp_path):
    server = Endpoint()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_MODEL", "m")
    monkeypatch.setenv("DYNAPURLS_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


def call(monkeypatch, tmp_path, *arguments):
    """Exit status of the command; what it wrote, if anything."""
    out = tmp_path / "out.json"
    fast = ["--timeout", "3", "--per-minute", "6000", "--parallel", "1", "--retries", "2"]
    monkeypatch.setattr(sys, "argv", ["describe", "--out", str(out), *fast, *arguments])
    with pytest.raises(SystemExit) as stopped:
        describe.main()
    return stopped.value.code, load_descriptions(out) if out.exists() else None


def test_all_texts_of_all_classes_are_written(endpoint, monkeypatch, tmp_path, capsys):
    code, classes = call(monkeypatch, tmp_path, "--classes", "wave", "kick a ball")
    assert code == 0
    assert list(classes) == ["wave", "kick a ball"]
    check_descriptions(classes, ["wave", "kick a ball"], "out.json")
    assert classes["wave"]["legs"] == "moves as in wave for Legs."
    assert classes["kick a ball"]["end"] == "moves as in kick a ball for 3."
    assert len(endpoint.requests) == 6
    assert "600 tokens of prompts and 300 of answers" in capsys.readouterr().out
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["provenance"][0].startswith("m, 20")
    # A second call asks for what is new alone, and keeps the rest.
    code, again = call(monkeypatch, tmp_path, "--classes", "wave", "bow")
    assert code == 0
    assert list(again) == ["wave", "kick a ball", "bow"]
    assert len(endpoint.requests) == 9


@pytest.mark.parametrize("act", ["hang", "garbage", 429, 500, "truncate", "echo", "omit"])
def test_what_goes_wrong_once_is_asked_again(act, endpoint, monkeypatch, tmp_path):
    endpoint.script = ["obey", act]
    code, classes = call(monkeypatch, tmp_path, "--classes", "wave")
    assert code == 0
    assert set(classes["wave"]) == set(GRANULARITIES)
    assert classes["wave"]["legs"] == "moves as in wave for Legs."
    assert len(endpoint.requests) == 4


def test_only_what_is_missing_is_asked_again(endpoint, monkeypatch, tmp_path):
    endpoint.script = ["obey", "truncate"]
    assert call(monkeypatch, tmp_path, "--classes", "wave")[0] == 0
    again = endpoint.requests[2][1]["messages"][0]["content"]
    assert "Legs would: ..." in again
    assert "Head would" not in again


def test_half_a_class_is_never_written(endpoint, monkeypatch, tmp_path, capsys):
    endpoint.script = ["obey", "obey", "obey", "obey", *["echo"] * 3]
    code, classes = call(monkeypatch, tmp_path, "--classes", "wave", "bow", "jump")
    assert code == 1
    assert list(classes) == ["wave", "jump"]
    assert "'bow': no usable text for head, hands, torso, legs" in capsys.readouterr().err
    code, classes = call(monkeypatch, tmp_path, "--classes", "wave", "bow", "jump")
    assert code == 0  # the answers that were of no use were not kept
    assert list(classes) == ["wave", "jump", "bow"]


@pytest.mark.parametrize("act", [500, 401, "hang", "garbage"])
def test_a_dead_endpoint_ends_the_run_and_what_is_written_stays(
    act, endpoint, monkeypatch, tmp_path, capsys
):
    endpoint.script = ["obey"] * 4 + [act] * 9
    code, classes = call(monkeypatch, tmp_path, "--classes", "wave", "bow")
    assert code == 2
    assert list(classes) == ["wave"]
    assert "error: http://127.0.0.1" in capsys.readouterr().err
    asked = len(endpoint.requests)
    endpoint.script = []
    code, classes = call(monkeypatch, tmp_path, "--classes", "wave", "bow")
    assert code == 0
    assert list(classes) == ["wave", "bow"]
    assert len(endpoint.requests) == asked + 2  # the first answer about bow was kept


def test_after_a_failure_no_thread_goes_on_asking(endpoint, monkeypatch, tmp_path):
    endpoint.script = [401] * 99
    names = [f"action {number}" for number in range(12)]
    code, classes = call(monkeypatch, tmp_path, "--classes", *names, "--parallel", "4")
    assert (code, classes) == (2, None)
    assert len(endpoint.requests) <= 8


def test_a_dry_run_asks_nothing(endpoint, monkeypatch, tmp_path, capsys):
    code, classes = call(
        monkeypatch, tmp_path, "--dataset", "ntu60", "--dry-run", "--prices", "1", "2"
    )
    assert (code, classes, endpoint.requests) == (0, None, [])
    shown = capsys.readouterr().out
    assert "Action: drink water" in shown
    assert "Head would: ..." in shown
    assert re.search(r"60 classes to describe.* about 180 requests.* 0\.0\d+ dollars", shown)


def test_requests_keep_their_distance(endpoint, monkeypatch, tmp_path):
    limits = ["--per-minute", "300", "--parallel", "4"]
    assert call(monkeypatch, tmp_path, "--classes", "wave", "bow", *limits)[0] == 0
    times = [moment for moment, _ in endpoint.requests]
    assert times[-1] - times[0] >= 5 * 0.2 * 0.9


def test_phrasings_are_several_texts(endpoint, monkeypatch, tmp_path):
    code, classes = call(monkeypatch, tmp_path, "--classes", "wave", "--phrasings", "2")
    assert code == 0
    assert len(classes["wave"]["head"]) == 2
    assert len({asked["seed"] for _, asked in endpoint.requests}) == 2
    check_descriptions(classes, ["wave"], "out.json")


def test_what_is_missing_to_ask_is_said(monkeypatch, tmp_path, capsys):
    for variable in ("OPENAI_API_KEY", "OPENAI_MODEL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    assert call(monkeypatch, tmp_path, "--classes", "wave") == (2, None)
    assert "give --model, or set OPENAI_MODEL" in capsys.readouterr().err
    assert call(monkeypatch, tmp_path, "--classes", "wave", "--model", "m") == (2, None)
    assert "set OPENAI_API_KEY" in capsys.readouterr().err
    assert call(monkeypatch, tmp_path, "--dataset", "ntu6") == (2, None)
    assert "did you mean 'ntu60'" in capsys.readouterr().err
    for option in ("--phrasings", "--per-minute", "--attempts"):
        assert call(monkeypatch, tmp_path, "--classes", "wave", option, "0") == (2, None)
        assert "expected a number greater than 0, got 0" in capsys.readouterr().err


def test_a_file_of_ones_own_is_added_to_and_kept(endpoint, monkeypatch, tmp_path, capsys):
    texts = {granularity: f"my own {granularity} text" for granularity in GRANULARITIES}
    mine = {"licence": "mine", "provenance": {"by": "me"}, "classes": {"bow": texts}}
    (tmp_path / "out.json").write_text(json.dumps(mine))
    assert call(monkeypatch, tmp_path, "--classes", "bow", "wave")[0] == 0
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["licence"] == "mine"
    assert record["provenance"][0] == {"by": "me"}
    assert record["classes"]["bow"] == texts
    assert set(record["classes"]) == {"bow", "wave"}
    del texts["legs"]
    (tmp_path / "out.json").write_text(json.dumps(mine))
    assert call(monkeypatch, tmp_path, "--classes", "wave")[0] == 2
    assert "class 'bow': expected a text for 'legs'" in capsys.readouterr().err


def test_answers_are_read_strictly():
    good = "**Head would:** turn to the left side.\n- Hands would: both rise over the head."
    assert read_answer(PARTS, good, True) == {
        "head": "turn to the left side.",
        "hands": "both rise over the head.",
    }
    assert list(read_answer(PARTS, good, False)) == ["head"]  # cut off: the last is not believed
    twice = good + "\nHead would: nod down and up."
    assert list(read_answer(PARTS, twice, True)) == ["hands"]
    assert read_answer(PARTS, "Head would: ...\nLegs would: still", True) == {}
    assert read_answer(PARTS, "I cannot help with that.", True) == {}
    bold = "**Head would**: turn to the left.\n1. Hands would: both rise up high."
    assert list(read_answer(PARTS, bold, True)) == ["head", "hands"]
    phases = "**1**: the arm rises up.\n2) the arm swings over.\nPhase 3: the arm drops down."
    assert read_answer(QUESTIONS[2], phases, True) == {
        "start": "the arm rises up.",
        "middle": "the arm swings over.",
        "end": "the arm drops down.",
    }
    chatty = "Sure!\n\nHead would: turn to the left.\n\nLet me know if you need more."
    assert read_answer(PARTS, chatty, True) == {"head": "turn to the left."}


def test_the_prompt_has_the_papers_form():
    prompt = wording(PARTS, "wave", ["head", "legs"])
    assert prompt.endswith("Head would: ...\nLegs would: ...")
    assert "Hands" not in prompt
    phases = wording(QUESTIONS[2], "wave", QUESTIONS[2].labels)
    assert phases.endswith("1: ...\n2: ...\n3: ...")


@pytest.mark.parametrize("chat", [False, True])
def test_a_local_model_answers(chat, tmp_path, monkeypatch, capsys):
    torch = pytest.importorskip("torch", reason="torch is not installed: no local model")
    tokenizers = pytest.importorskip("tokenizers")
    import transformers

    words = ["<unk>", "Action:", "wave", "Head", "would:", "turns", "left", "<end>"]
    table = tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>")
    tokenizer = tokenizers.Tokenizer(table)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    if chat:
        fast.chat_template = "{% for m in messages %}<end> {{ m['content'] }}{% endfor %}"
    fast.save_pretrained(tmp_path / "model")
    torch.manual_seed(0)
    sizes = {"vocab_size": len(words), "n_positions": 128, "n_embd": 8, "n_layer": 1, "n_head": 1}
    config = transformers.GPT2Config(**sizes, bos_token_id=7, eos_token_id=7)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    model = Local(str(tmp_path / "model"), temperature=1.0, max_tokens=10)
    answer = model.ask("Action: wave", 0)
    assert set(answer.text.split()) <= set(words)
    assert answer == model.ask("Action: wave", 0)
    assert answer.tokens_in == 2 + chat
    assert 0 < answer.tokens_out <= 10
    # What such a model says is of no use, and nothing is written.
    monkeypatch.setenv("DYNAPURLS_CACHE", str(tmp_path / "cache"))
    local = ["--classes", "wave", "--local", str(tmp_path / "model"), "--max-tokens", "5"]
    assert call(monkeypatch, tmp_path, *local) == (1, None)
    assert "'wave': no usable text for global, head" in capsys.readouterr().err
    assert not list((data_home() / "answers").glob("*.json"))
    with pytest.raises(ModelError, match="no-such-model"):
        Local(str(tmp_path / "no-such-model"), 1.0, 5)


def test_written_descriptions_pass_the_lint(endpoint, monkeypatch, tmp_path):
    _, classes = call(monkeypatch, tmp_path, "--classes", "wave", "kick a ball")
    assert lint(classes) == []
