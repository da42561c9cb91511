"""A confined child does no harm, however it tries, and however it ends it becomes a sentence."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from exactile.errors import ModelError
from exactile.isolation import Bounds, Outcome, Tell, run_confined
from exactile.isolation import confinement as confinement_module
from exactile.isolation.seccomp import program
from exactile.isolation.system_calls import ARCHITECTURES

BOUNDS = Bounds(1 << 30, 20)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="confinement is Linux's")


def in_force() -> str:
    """Return what confines children here."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, " ".join(confinement_module.confine(1 << 30, 20)).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as said:
        return said.read()


def attempted(action: Callable[[], object]) -> str:
    """Return the error that `action` met in a child, or what it gave."""

    def work(tell: Tell) -> None:
        try:
            tell(f"it succeeded with {action()!r}")
        except (OSError, RuntimeError) as error:
            tell(f"{type(error).__name__}: {error}")

    return run_confined(work, BOUNDS).during


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("more")


HARM: dict[str, Callable[[Path], object]] = {
    "makes a file": lambda kept: (kept.parent / "made").write_text("x"),
    "makes an empty file": lambda kept: (kept.parent / "made").touch(),
    "changes a file": append,
    "empties a file": lambda kept: os.truncate(kept, 0),
    "removes a file": lambda kept: kept.unlink(),
    "renames a file": lambda kept: kept.rename(kept.parent / "made"),
    "changes who may read": lambda kept: kept.chmod(0o777),
    "changes times": lambda kept: os.utime(kept, (0, 0)),
    "makes a folder": lambda kept: (kept.parent / "made").mkdir(),
    "makes a link": lambda kept: (kept.parent / "made").symlink_to(kept),
    "makes a hard link": lambda kept: (kept.parent / "made").hardlink_to(kept),
    "makes a pipe": lambda kept: os.mkfifo(kept.parent / "made"),
    "maps a file to write": lambda kept: torch.from_file(str(kept.parent / "made"), True, 8),
    "saves tensors": lambda kept: torch.save(torch.zeros(1), kept.parent / "made"),
    "becomes a program": lambda kept: os.execv("/bin/touch", ["touch", str(kept.parent / "made")]),
    "forks": lambda kept: os.fork() or os._exit(0),
    "connects": lambda kept: socket.create_connection(("127.0.0.1", 9), timeout=1),
    "sends without connection": lambda kept: socket.socket(type=socket.SOCK_DGRAM),
    "makes a local socket": lambda kept: socket.socket(socket.AF_UNIX),
    "signals its parent": lambda kept: os.kill(os.getppid(), 0),
    "writes into its parent": lambda kept: Path(f"/proc/{os.getppid()}/mem").write_bytes(b"x"),
    "changes the working folder": lambda kept: os.chdir("/"),
}


@pytest.mark.skipif("seccomp" not in in_force(), reason="this system has no seccomp")
@pytest.mark.parametrize("name", HARM)
def test_what_would_do_harm_is_not_permitted(tmp_path: Path, name: str) -> None:
    kept = tmp_path / "kept"
    kept.write_text("precious")
    before = kept.stat()
    assert "not permitted" in attempted(lambda: HARM[name](kept))
    assert kept.read_text() == "precious"
    assert kept.stat().st_mode == before.st_mode
    assert list(tmp_path.iterdir()) == [kept]


FILES = [name for name in HARM if name.startswith(("makes a f", "changes a", "removes", "renames"))]


@pytest.mark.skipif("Landlock" not in in_force(), reason="this system has no Landlock")
@pytest.mark.parametrize("name", [*FILES, "becomes a program"])
def test_landlock_alone_keeps_files_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("exactile.isolation.seccomp.ARCHITECTURES", {})
    kept = tmp_path / "kept"
    kept.write_text("precious")
    assert "Permission denied" in attempted(lambda: HARM[name](kept))
    assert kept.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [kept]


def test_limits_alone_keep_files_from_growing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("landlock", "seccomp"):
        monkeypatch.setattr(f"exactile.isolation.{name}.restrict", lambda: "")
    kept = tmp_path / "kept"
    kept.write_text("precious")
    run_confined(lambda tell: append(kept), BOUNDS)
    assert kept.read_text() == "precious"


def test_system_commands_do_nothing(tmp_path: Path) -> None:
    if "seccomp" in in_force():
        attempted(lambda: os.system(f"touch {tmp_path / 'made'}"))
        assert not list(tmp_path.iterdir())


def test_files_of_the_parent_are_closed(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        number = file.fileno()
        assert "Bad file descriptor" in attempted(lambda: os.write(number, b"x"))


def test_it_computes_reads_imports_and_makes_threads(tmp_path: Path) -> None:
    (tmp_path / "read").write_text("read")
    (tmp_path / "own_module.py").write_text("VALUE = 7")

    def work() -> object:
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        sys.path.insert(0, str(tmp_path))
        own = __import__("own_module")
        image = torch.nn.functional.conv2d(torch.ones(1, 1, 8, 8), torch.ones(1, 1, 3, 3))
        return (tmp_path / "read").read_text(), own.VALUE, int(image.sum())

    assert attempted(work) == "it succeeded with ('read', 7, 324)"


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda tell: ctypes.string_at(0), "SIGSEGV (memory that is not there)"),
        (lambda tell: os.abort(), "SIGABRT"),
        (lambda tell: os._exit(7), "with code 7"),
        (lambda tell: torch.zeros(1 << 40), "can't allocate memory"),
        (lambda tell: 1 // 0, "ZeroDivisionError"),
    ],
)
def test_every_end_is_told(end: Callable[[Tell], object], said: str) -> None:
    def work(tell: Tell) -> None:
        tell("it tried")
        end(tell)

    outcome = run_confined(work, BOUNDS)
    assert said in outcome.ended
    assert outcome.during == "it tried"


def test_a_loop_without_end_is_ended() -> None:
    def work(tell: Tell) -> None:
        while True:
            pass

    assert run_confined(work, Bounds(1 << 30, 1)).ended == "it was not done after 1 s"


def test_a_refusal_comes_through_and_success_says_nothing() -> None:
    def refuse(tell: Tell) -> None:
        raise ModelError("m.pt: no")

    assert run_confined(refuse, BOUNDS) == Outcome(refused="m.pt: no", during="it started")
    assert run_confined(lambda tell: None, BOUNDS) == Outcome(during="it started")


def test_no_child_is_left_behind() -> None:
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    before = children.read_text()
    run_confined(lambda tell: os.kill(os.getpid(), signal.SIGKILL), BOUNDS)
    assert children.read_text() == before


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_jumps_of_the_filter_end_at_answers(machine: str) -> None:
    code = program(ARCHITECTURES[machine], 1)
    assert len(code) < 4096
    for place, (kind, true, false, _) in enumerate(code):
        if kind & 0x07 == 0x05:
            assert place + 1 + max(true, false) < len(code)
    assert code[-1][0] == 0x06


@pytest.mark.skipif(platform.machine() not in ARCHITECTURES, reason="numbers are not known")
def test_numbers_of_calls_are_those_of_the_kernel() -> None:
    calls = ARCHITECTURES[platform.machine()]
    library = ctypes.CDLL(None)
    getpid = 39 if platform.machine() == "x86_64" else 172
    assert library.syscall(getpid) == os.getpid()
    assert getpid in calls.allowed
    assert len(set(calls.allowed)) == len(calls.allowed)
