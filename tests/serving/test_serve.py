"""The command: a trained model, a hundred requests at once, a signal; and what keeps it from serving."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lightning_seg
from lightning_seg import Predictor
from lightning_seg.serve import main, parse
from lightning_seg.serving.service import Limits
from tests.conftest import REPOSITORY
from tests.helpers.python import python
from tests.predictors import noise, trained_by_hand
from tests.serving import Answer, Thresholds, ask, bomb, encoded, predict, served

pytestmark = pytest.mark.usefixtures("one_thread")

DOCUMENT = (REPOSITORY / "docs/serve.md").read_text()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    return trained_by_hand(tmp_path_factory.mktemp("served"), scenes)


@pytest.fixture
def start(checkpoint: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], int]]]:
    """Starts the command on a free port, and gives its process and the port."""
    processes = []

    def started(*arguments: str) -> tuple[subprocess.Popen[str], int]:
        command = [python(), "-m", "lightning_seg.serve", "--ckpt_path", str(checkpoint), "--port", "0", *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen([*command, "--device", "cpu"], stdout=pipe, stderr=pipe, text=True)
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Serving m.ckpt at http://127.0.0.1:"), process.communicate()
        return process, int(line.split(":")[2].split()[0])

    yield started
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.runs
@pytest.mark.parametrize("batch_size", [1, 5])
def test_of_a_hundred_requests_at_once_each_gets_its_answer(
    start: Callable[..., tuple[subprocess.Popen[str], int]], checkpoint: Path, batch_size: int
) -> None:
    """Label maps are the predictor's; wrong requests among them get their own answers; a signal ends it."""
    process, port = start("--batch_size", str(batch_size))
    sizes = [(32, 48), (33, 71), (64, 40), (32, 48)]
    images = [noise(*sizes[index % 4], index) for index in range(80)]
    wrong: list[tuple[Callable[[], Answer], int]] = [
        (lambda: predict(port, b"no image"), 400),
        (lambda: predict(port, encoded(noise(40, 40))[:-100]), 400),
        (lambda: predict(port, bomb(20_000, 10_000)), 413),
        (lambda: ask(port, "GET", "/predict"), 405),
        (lambda: ask(port, "POST", "/nowhere", b"x"), 404),
    ]
    with ThreadPoolExecutor(100) as pool:
        answers, refusals = [], []
        for index, image in enumerate(images):
            answers.append(pool.submit(predict, port, encoded(image)))
            if index % 4 == 0:
                refusals.append((pool.submit(wrong[index // 4 % 5][0]), wrong[index // 4 % 5][1]))
        assert len(answers) + len(refusals) == 100
        for refusal, status in refusals:
            assert refusal.result().status == status
            assert json.loads(refusal.result().body)["error"]
        masks = [answer.result().mask for answer in answers]
    expected = lightning_seg.load(checkpoint, device="cpu")(images)
    assert len({result.mask.tobytes() for result in expected}) > 1
    for mask, result in zip(masks, expected, strict=True):
        assert np.array_equal(mask, result.mask) if batch_size == 1 else (mask == result.mask).mean() > 0.99
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert output.count("POST /predict") == 80 + 12
    assert output.endswith("Stopped.\n")
    assert errors == ""


@pytest.mark.runs
def test_what_is_under_way_at_a_signal_is_answered(start: Callable[..., tuple[subprocess.Popen[str], int]]) -> None:
    process, port = start()
    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(predict, port, encoded(noise(300, 400, index))) for index in range(6)]
        while json.loads(ask(port, path="/health").body)["requests"] < 3:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        statuses = [answer.exception() or answer.result().status for answer in answers]
    assert process.wait(60) == 0
    assert statuses.count(200) >= 3
    assert all(status == 200 or isinstance(status, ConnectionError) for status in statuses)  # of those not taken yet


def test_a_port_that_is_taken_is_named(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the model is loaded."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["--ckpt_path", "nowhere.ckpt", "--port", str(port)]) == 1
    assert capsys.readouterr().err == (
        f"error: port {port} of 127.0.0.1 cannot be listened to (Address already in use): another program uses it; "
        "give another --port, or 0 for any that is free\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "203.0.113.7"], "port 0 of 203.0.113.7 cannot be listened to (Cannot assign requested address)"),
        (["--host", "no such.host"], "--host no such.host is not known ("),
        (["--device", "gpu"], "device is 'gpu', but auto, cpu, cuda, cuda:1 or mps is needed"),
        ([], "checkpoint nowhere.ckpt does not exist"),
    ],
)  # fmt: skip
def test_what_keeps_it_from_serving_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--ckpt_path", "nowhere.ckpt", "--port", "0", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("library", ["fastapi", "uvicorn"])
def test_libraries_that_are_missing_are_named(
    library: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("lightning_seg.serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["--ckpt_path", "nowhere.ckpt"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {library} is not installed (")
    assert error.endswith("and serving needs it: pip install 'lightning_seg[serve]'\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --ckpt_path"),
        (["--ckpt_path", "x", "--port", "70000"], "argument --port: 70000 is no number from 0 to 65535"),
        (["--ckpt_path", "x", "--port", "http"], "argument --port: http is no number from 0 to 65535"),
        (["--ckpt_path", "x", "--batch_size", "0"], "argument --batch_size: 0 is no number from 1 on"),
        (["--ckpt_path", "x", "--max_pixels", "-1"], "argument --max_pixels: -1 is no number from 1 on"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("0.0.0.0", "0.0.0.0")],
)
def test_the_address_is_printed_and_who_can_reach_it(
    host: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    monkeypatch.setattr("lightning_seg.serving.server.load", lambda *_: Predictor(Thresholds()))
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main(["--ckpt_path", "runs/street/version_0", "--host", host, "--port", "0"]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"Serving street/version_0 at http://{re.escape(shown)}:\d+ \(Ctrl\+C stops it\)", first)
    warning = ["Whoever reaches this machine can use it: there is no password."] if host == "0.0.0.0" else []
    assert others == [*warning, "Stopped."]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_it_listens_to_this_machine_alone_unless_told_otherwise() -> None:
    given = parse(["--ckpt_path", "x"])
    assert (given.host, given.port, given.device, given.batch_size) == ("127.0.0.1", 8000, "auto", None)


def test_commands_of_the_documents_parse() -> None:
    commands = re.findall(r"^python -m lightning_seg\.serve ([^#\n]*)", DOCUMENT, re.MULTILINE)
    assert [parse(command.split()).ckpt_path for command in commands] == ["runs/street/version_0"]


def test_the_documents_defaults_are_the_commands() -> None:
    given = parse(["--ckpt_path", "x"])
    assert f"`--max_bytes` ({given.max_bytes // 2**20} MiB)" in DOCUMENT
    assert f"`--max_pixels` ({given.max_pixels // 10**6} million)" in DOCUMENT
    assert f"`--max_requests` ({given.max_requests})" in DOCUMENT
    assert Limits(given.max_bytes, given.max_pixels, given.max_requests) == Limits()


def test_clients_of_the_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python and the curl that they show, on an image of that name."""
    monkeypatch.chdir(tmp_path)
    data = encoded(noise(20, 30), "JPEG")
    Path("new.jpg").write_bytes(data)
    with served(Thresholds()) as (port, _):
        shown = DOCUMENT.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        expected = predict(port, data)
        (script,) = re.findall(r"^```python\n(.*?)^```", shown, flags=re.DOTALL | re.MULTILINE)
        names: dict[str, Any] = {}
        exec(script, names)
        assert np.array_equal(names["mask"], expected.mask)
        commands = re.findall(r"^curl .*", shown, re.MULTILINE)
        assert len(commands) == 2
        if shutil.which("curl"):
            done = [subprocess.run(command, shell=True, capture_output=True, check=True) for command in commands]
            assert Path("mask.png").read_bytes() == expected.body
            assert json.loads(done[1].stdout)["width"] == 30
