"""How the bench measures: processor time of served processes, rounds in turn, medians, and one table."""

import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HOME = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Line:
    """One line of the table: a figure, its goal, and what it is made of."""

    part: str
    what: str
    value: float
    unit: str = "×"
    # Largest or smallest value that still meets the goal; none: told for its own sake.
    at_most: float | None = None
    at_least: float | None = None
    of: str = ""

    @property
    def verdict(self) -> str:
        """Is the goal met?"""
        if self.at_most is None and self.at_least is None:
            return ""
        below = self.at_most is None or self.value <= self.at_most
        above = self.at_least is None or self.value >= self.at_least
        return "met" if below and above else "MISSED"

    @property
    def goal(self) -> str:
        """The goal in a few characters."""
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return f"≥ {self.at_least:g}" if self.at_least is not None else ""

    @property
    def shown(self) -> str:
        """The figure with its unit."""
        digits = 0 if self.value >= 100 or self.value == int(self.value) else 2
        return f"{self.value:,.{digits}f} {self.unit}".strip()

    def as_json(self) -> dict[str, Any]:
        """For results.json."""
        return {**asdict(self), "verdict": self.verdict}


def processor_seconds(pids: Iterable[int]) -> float:
    """Processor time that these processes have had, all their threads together."""
    return sum(_seconds_of(pid) for pid in pids)


def _seconds_of(pid: int) -> float:
    """In nanoseconds where the kernel counts so, else in its ticks."""
    try:
        return (
            sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat"))
            / 1e9
        )
    except (FileNotFoundError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """A WSGI application on gunicorn, and what its processes have used."""

    def __init__(self, application: str, port: int, process: "subprocess.Popen[bytes]") -> None:
        self.application = application
        self.port = port
        self.process = process

    def pids(self) -> list[int]:
        """gunicorn's master and its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def seconds(self) -> float:
        """Processor time so far."""
        return processor_seconds(self.pids())


@contextmanager
def served(
    application: str, folder: Path, *, port: int = 0, workers: int = 2, **settings: str
) -> Iterator[Served]:
    """Serve `application` with `settings` in its environment, until the block ends."""
    port = port or free_port()
    log = folder / f"{application.partition(':')[0]}-{port}.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LTI_TOOL_")}
    command = [BIN / "gunicorn", "--worker-class", "gthread", "--workers", str(workers), "--threads", "4"]
    with log.open("wb") as written:
        process = subprocess.Popen(
            [*command, "--bind", f"127.0.0.1:{port}", "--no-control-socket", application],
            cwd=HOME,
            env={**environment, **settings},
            stdout=written,
            stderr=written,
        )
    try:
        _wait_until_listening(process, port, log)
        yield Served(application, port, process)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_listening(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"nothing listens on {port}:\n{log.read_text()[-3000:]}")


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def header(self, name: str) -> str:
        """A header's first value, or nothing."""
        return next((value for key, value in self.headers if key == name), "")

    @property
    def cookies(self) -> dict[str, str]:
        """What it set."""
        pairs = (value.partition(";")[0].partition("=") for key, value in self.headers if key == "set-cookie")
        return {name: value for name, _, value in pairs if value}


def ask(
    port: int, path: str, *, form: str = "", cookies: Mapping[str, str] | None = None, extra: str = ""
) -> Answer:
    """One request on a connection of its own, as from a proxy without keep-alive; cheap for the caller."""
    method, sent = ("POST", form.encode()) if form else ("GET", b"")
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{extra}"
    if form:
        head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(sent)}\r\n"
    if cookies:
        head += f"Cookie: {'; '.join(f'{name}={value}' for name, value in cookies.items())}\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head.encode() + b"\r\n" + sent)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    top, _, body = received.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Answer(int(first.split()[1]), headers, body)


def path_of(url: str) -> str:
    """An address without its host."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def in_turn(
    rounds: int, runs: Mapping[str, Callable[[], Mapping[str, float]]]
) -> dict[str, dict[str, float]]:
    """Each run `rounds` times, another one first each time; the median of each figure.

    Whoever else uses the machine meanwhile disturbs all of them alike.
    """
    names = list(runs)
    seen: dict[str, list[Mapping[str, float]]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            seen[name].append(runs[name]())
    return {
        name: {figure: statistics.median(run[figure] for run in found) for figure in found[0]}
        for name, found in seen.items()
    }


def machine() -> dict[str, str]:
    """Where the figures come from."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 1024
    return {
        "processor": f"{len(cpu)} × {cpu[0]}" if cpu else platform.machine(),
        "memory": f"{memory:,} MB",
        "system": f"{platform.system()} {platform.release()}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }
