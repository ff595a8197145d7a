"""Descriptions from a language model: a local HTTP server with faults, strict parsing."""

import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data_pipelines.paths import data_home
from dynapurls_jax.text import describe
from dynapurls_jax.text.descriptions import check_descriptions, load_descriptions
from dynapurls_jax.text.granularities import GRANULARITIES
from dynapurls_jax.text.lint import lint
from dynapurls_jax.text.writing.models import Local, ModelError
from dynapurls_jax.text.writing.questions import QUESTIONS, parse_answer, prompt_of

PARTS = QUESTIONS[1]


def valid_answer(prompt):
    """An answer in the format of the prompt."""
    name = re.search("Action: (.*)", prompt)[1]
    labels = re.findall(r"^(.*): \.\.\.$", prompt, re.M)
    return "\n".join(f"{label}: moves as in {name} for {label.split()[0]}." for label in labels)


class Endpoint(ThreadingHTTPServer):
    """Answers request by request as in `script`, and with valid answers after its end."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.lock = [], [], threading.Lock()
        self.sent = 0  # bytes of endless replies
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """Ignores clients that disconnect."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def do_POST(self):
        """A chat completion, or the fault of the script."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        with self.server.lock:
            self.server.requests.append((time.monotonic(), body))
            act = self.server.script.pop(0) if self.server.script else "answer"
        if isinstance(act, int):
            return self.reply(act, b'{"error": {"message": "as the script says"}}')
        if act == "hang":
            time.sleep(4)
        if act in ("drip", "drip_head", "flood"):
            return self.abuse(act)
        if act == "garbage":
            return self.reply(200, b"<html>busy</html>")
        text, reason = valid_answer(prompt), "stop"
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

    def abuse(self, act):
        """A byte now and then of the head or of the body; or a body without an end."""
        head = b"HTTP/1.1 200 OK\r\nX: "
        self.wfile.write(head if act == "drip_head" else head + b"\r\n\r\n")
        while True:
            self.server.sent += self.wfile.write(bytes(2**16) if act == "flood" else b" ")
            time.sleep(0 if act == "flood" else 0.1)

    def reply(self, status, body):
        """Sends a JSON body."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("retry-after-ms", "10")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Logs nothing."""


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
    """Exit status of the command, and the descriptions in its file, if it wrote one."""
    out = tmp_path / "out.json"
    fast = ["--timeout", "3", "--per_minute", "6000", "--parallel", "1", "--retries", "2"]
    monkeypatch.setattr(sys, "argv", ["describe", "--out", str(out), *fast, *arguments])
    with pytest.raises(SystemExit) as stopped:
        describe.main()
    return stopped.value.code, load_descriptions(out) if out.exists() else None


def test_all_texts_of_all_classes_are_written(endpoint, monkeypatch, tmp_path, capsys):
    code, classes = call(monkeypatch, tmp_path, "--classes", "wave", "kick a ball")
    assert code == 0
    assert list(classes) == ["wave", "kick a ball"]
    assert lint(classes) == []
    assert classes["wave"]["legs"] == "moves as in wave for Legs."
    assert classes["kick a ball"]["end"] == "moves as in kick a ball for 3."
    assert len(endpoint.requests) == 6
    assert "600 tokens of prompts and 300 of answers" in capsys.readouterr().out
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["provenance"][0].startswith("m, 20")
    # A second call requests the new class alone.
    code, again = call(monkeypatch, tmp_path, "--classes", "wave", "bow")
    assert code == 0
    assert list(again) == ["wave", "kick a ball", "bow"]
    assert len(endpoint.requests) == 9


@pytest.mark.parametrize("act", ["hang", "garbage", 429, 500, "truncate", "echo", "omit"])
def test_a_request_that_fails_once_is_repeated(act, endpoint, monkeypatch, tmp_path):
    endpoint.script = ["answer", act]
    code, classes = call(monkeypatch, tmp_path, "--classes", "wave")
    assert code == 0
    assert set(classes["wave"]) == set(GRANULARITIES)
    assert classes["wave"]["legs"] == "moves as in wave for Legs."
    assert len(endpoint.requests) == 4


def test_only_missing_texts_are_requested_again(endpoint, monkeypatch, tmp_path):
    endpoint.script = ["answer", "truncate"]
    assert call(monkeypatch, tmp_path, "--classes", "wave")[0] == 0
    again = endpoint.requests[2][1]["messages"][0]["content"]
    assert "Legs would: ..." in again
    assert "Head would" not in again


def test_an_incomplete_class_is_not_written(endpoint, monkeypatch, tmp_path, capsys):
    endpoint.script = ["answer", "answer", "answer", "answer", *["echo"] * 3]
    code, classes = call(monkeypatch, tmp_path, "--classes", "wave", "bow", "jump")
    assert code == 1
    assert list(classes) == ["wave", "jump"]
    assert "'bow': no usable text for head, hands, torso, legs" in capsys.readouterr().err
    assert len(list((data_home() / "answers").glob("*.json"))) == 8  # 3 + 2 + 3 usable ones
    code, classes = call(monkeypatch, tmp_path, "--classes", "wave", "bow", "jump")
    assert code == 0  # unusable answers are not cached
    assert list(classes) == ["wave", "jump", "bow"]


@pytest.mark.parametrize("act", [500, 401, "garbage", pytest.param("hang", marks=pytest.mark.slow)])
def test_a_dead_endpoint_ends_the_run_and_written_classes_stay(
    act, endpoint, monkeypatch, tmp_path, capsys
):
    endpoint.script = ["answer"] * 4 + [act] * 9
    code, classes = call(monkeypatch, tmp_path, "--classes", "wave", "bow")
    assert code == 2
    assert list(classes) == ["wave"]
    assert "error: http://127.0.0.1" in capsys.readouterr().err
    before = len(endpoint.requests)
    endpoint.script = []
    code, classes = call(monkeypatch, tmp_path, "--classes", "wave", "bow")
    assert code == 0
    assert list(classes) == ["wave", "bow"]
    assert len(endpoint.requests) == before + 2  # the first answer about bow is cached


@pytest.mark.parametrize("act", ["drip", "drip_head", "flood"])
def test_an_endless_reply_ends(act, endpoint, monkeypatch, tmp_path, capsys):
    endpoint.script = [act] * 9
    short = ["--timeout", "0.5", "--retries", "1"]
    began = time.monotonic()
    assert call(monkeypatch, tmp_path, "--classes", "wave", *short) == (2, None)
    assert time.monotonic() - began < 30
    assert "error: http://127.0.0.1" in (shown := capsys.readouterr().err)
    if act == "flood":
        assert endpoint.sent < 9 * 2**23
    else:
        assert "no whole reply within 1 seconds" in shown


def test_after_a_failure_no_thread_makes_requests(endpoint, monkeypatch, tmp_path):
    endpoint.script = [401] * 99
    names = [f"action {number}" for number in range(12)]
    code, classes = call(monkeypatch, tmp_path, "--classes", *names, "--parallel", "4")
    assert (code, classes) == (2, None)
    assert len(endpoint.requests) <= 8


def test_a_dry_run_makes_no_request(endpoint, monkeypatch, tmp_path, capsys):
    code, classes = call(
        monkeypatch, tmp_path, "--dataset", "ntu60", "--dry_run", "--prices", "1", "2"
    )
    assert (code, classes, endpoint.requests) == (0, None, [])
    shown = capsys.readouterr().out
    assert "Action: drink water" in shown
    assert "Head would: ..." in shown
    assert re.search(r"60 classes to describe.* about 180 requests.* 0\.0\d+ dollars", shown)


def test_the_rate_of_requests_is_limited(endpoint, monkeypatch, tmp_path):
    limits = ["--per_minute", "300", "--parallel", "4"]
    assert call(monkeypatch, tmp_path, "--classes", "wave", "bow", *limits)[0] == 0
    times = [moment for moment, _ in endpoint.requests]
    assert times[-1] - times[0] >= 5 * 0.2 * 0.9


def test_phrasings_are_several_texts(endpoint, monkeypatch, tmp_path):
    code, classes = call(monkeypatch, tmp_path, "--classes", "wave", "--phrasings", "2")
    assert code == 0
    assert len(classes["wave"]["head"]) == 2
    assert len({body["seed"] for _, body in endpoint.requests}) == 2
    check_descriptions(classes, ["wave"], "out.json")


def test_errors_name_missing_settings(monkeypatch, tmp_path, capsys):
    for variable in ("OPENAI_API_KEY", "OPENAI_MODEL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    assert call(monkeypatch, tmp_path, "--classes", "wave") == (2, None)
    assert "give --model, or set OPENAI_MODEL" in capsys.readouterr().err
    assert call(monkeypatch, tmp_path, "--classes", "wave", "--model", "m") == (2, None)
    assert "set OPENAI_API_KEY" in capsys.readouterr().err
    assert call(monkeypatch, tmp_path, "--dataset", "ntu6") == (2, None)
    assert "did you mean 'ntu60'" in capsys.readouterr().err
    for option in ("--phrasings", "--per_minute", "--attempts"):
        assert call(monkeypatch, tmp_path, "--classes", "wave", option, "0") == (2, None)
        assert "expected more than 0, got 0" in capsys.readouterr().err


def test_an_existing_file_is_extended(endpoint, monkeypatch, tmp_path, capsys):
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


def test_answers_are_parsed_strictly():
    good = "**Head would:** turn to the left side.\n- Hands would: both rise over the head."
    assert parse_answer(PARTS, good, True) == {
        "head": "turn to the left side.",
        "hands": "both rise over the head.",
    }
    assert list(parse_answer(PARTS, good, False)) == ["head"]  # truncated: without the last
    twice = good + "\nHead would: nod down and up."
    assert list(parse_answer(PARTS, twice, True)) == ["hands"]
    assert parse_answer(PARTS, "Head would: ...\nLegs would: still", True) == {}
    assert parse_answer(PARTS, "I cannot help with that.", True) == {}
    bold = "**Head would**: turn to the left.\n1. Hands would: both rise up high."
    assert list(parse_answer(PARTS, bold, True)) == ["head", "hands"]
    phases = "**1**: the arm rises up.\n2) the arm swings over.\nPhase 3: the arm drops down."
    assert parse_answer(QUESTIONS[2], phases, True) == {
        "start": "the arm rises up.",
        "middle": "the arm swings over.",
        "end": "the arm drops down.",
    }
    chatty = "Sure!\n\nHead would: turn to the left.\n\nLet me know if you need more."
    assert parse_answer(PARTS, chatty, True) == {"head": "turn to the left."}


def test_an_answer_of_white_space_is_parsed_at_once():
    began = time.monotonic()
    for text in ("\n" * 2**20, "Head would" + "\n" * 2**20, " \n" * 2**19, "*" * 2**20):
        assert parse_answer(PARTS, text, True) == {}
    assert time.monotonic() - began < 10


def test_the_prompt_has_the_format_of_the_paper():
    prompt = prompt_of(PARTS, "wave", ["head", "legs"])
    assert prompt.endswith("Head would: ...\nLegs would: ...")
    assert "Hands" not in prompt
    phases = prompt_of(QUESTIONS[2], "wave", QUESTIONS[2].labels)
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
    answer = model.answer("Action: wave", 0)
    assert set(answer.text.split()) <= set(words)
    assert answer == model.answer("Action: wave", 0)
    assert answer.prompt_tokens == 2 + chat
    assert 0 < answer.answer_tokens <= 10
    # A random model gives no usable text: nothing is written.
    monkeypatch.setenv("DYNAPURLS_CACHE", str(tmp_path / "cache"))
    local = ["--classes", "wave", "--local", str(tmp_path / "model"), "--max_tokens", "5"]
    assert call(monkeypatch, tmp_path, *local) == (1, None)
    assert "'wave': no usable text for global, head" in capsys.readouterr().err
    assert not list((data_home() / "answers").glob("*.json"))
    with pytest.raises(ModelError, match="no-such-model"):
        Local(str(tmp_path / "no-such-model"), 1.0, 5)


def test_help_ends_with_status_0(monkeypatch, tmp_path, capsys):
    assert call(monkeypatch, tmp_path, "--help") == (0, None)
    assert "--dry_run" in capsys.readouterr().out
