"""How the service holds up: clients that ask over loopback as fast as they are answered, and a kill in the middle.

    python tests/load.py [--seconds 10] [--images 10000]

Drawn people, the packaged weights. First searches, by several numbers of clients, with batches of 16 pictures and of one;
then people are put in and taken out by several clients while others search, the service is killed (SIGKILL) under way, and
the gallery must hold what was answered: each picture that was added, and none that was removed.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from aaformer_lit.data.synthetic import SyntheticSpec, render
from aaformer_lit.gallery import Crop, Extractor, Gallery, create_for

SPEC = SyntheticSpec(num_train_ids=1, num_test_ids=40)


@dataclass
class Tally:
    """Milliseconds of each request that was answered, the other answers by their status, and seconds until the last one."""

    milliseconds: list[float] = field(default_factory=list)
    others: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0

    def line(self) -> str:
        p50, p95, p99 = np.percentile(self.milliseconds, [50, 95, 99]) if self.milliseconds else [float("nan")] * 3
        rate = len(self.milliseconds) / self.seconds
        others = ", ".join(f"{count} x {status}" for status, count in sorted(self.others.items())) or "none"
        return f"{rate:8.1f}/s  p50 {p50:7.1f} ms  p95 {p95:7.1f} ms  p99 {p99:7.1f} ms  other answers: {others}"


def pictures() -> list[bytes]:
    """JPEGs of drawn people."""
    drawn = [render(SPEC, pid, camera, 0)[0] for pid in SPEC.test_pids for camera in (1, 2)]
    return [cv2.imencode(".jpg", image[..., ::-1])[1].tobytes() for image in drawn]


def make_gallery(folder: Path, images: int, some: list[bytes]) -> None:
    """Descriptors of the pictures with noise on them, so many that a search has something to do."""
    extractor = Extractor.from_checkpoint("synthetic-small", num_workers=0)
    pixels = [cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].copy() for one in some]
    described = extractor.features(pixels)
    rows = torch.arange(images) % len(some)
    noise = torch.randn(images, *described.shape[1:], generator=torch.Generator().manual_seed(0))
    root = folder / "images"
    root.mkdir(parents=True)
    crops = [Crop(root / f"{number}.jpg", None, str(number % 40 + 1), "1") for number in range(images)]
    hashes = [f"{number:032x}" for number in range(images)]
    create_for(extractor, folder / "gallery", root).add(crops, described[rows] + 0.1 * described.std() * noise, hashes)


@contextlib.contextmanager
def service(folder: Path, *overrides: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The service as a process of its own, and its address."""
    given = [f"gallery={folder / 'gallery'}", "ckpt=synthetic-small", "port=0", *overrides]
    command = [sys.executable, "-m", "aaformer_lit.serve", *given]
    environment = {**os.environ, "COLUMNS": "200"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), line
        yield process, line.split()[0].removeprefix("http://")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> int:
    """One request; its status."""
    connection.request(method, path, body, {"Content-Type": "image/jpeg"} if body else {})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def together(jobs: list[Callable[[], None]]) -> None:
    """All at once, each in its thread."""
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def searching(address: str, some: list[bytes], number: int, until: float, tally: Tally) -> None:
    """A client that searches until then, or until the service is gone."""
    connection = http.client.HTTPConnection(address, timeout=60)
    while time.monotonic() < until:
        started = time.perf_counter()
        try:
            status = ask(connection, "POST", "/search?k=10", some[number % len(some)])
        except (OSError, http.client.HTTPException):
            break
        if status == 200:
            tally.milliseconds.append(1e3 * (time.perf_counter() - started))
        else:
            tally.others[status] += 1
        number += 7
    connection.close()


def searches(folder: Path, some: list[bytes], seconds: float, clients: list[int], batch: int) -> Iterator[Tally]:
    """What so many clients get, for each number of them."""
    with service(folder, f"batch.size={batch}") as (_, address):
        searching(address, some, 0, time.monotonic() + 1, Tally())  # the first index, the first pass
        for count in clients:
            tally, started = Tally(), time.monotonic()
            together([partial(searching, address, some, number, started + seconds, tally) for number in range(count)])
            tally.seconds = time.monotonic() - started
            yield tally


def changes_and_a_kill(folder: Path, some: list[bytes], seconds: float) -> tuple[int, int, list[str]]:
    """Pictures added and removed as far as that was answered, and what the gallery then does not hold to."""
    added: list[str] = []
    asked: list[str] = []  # to be removed
    removed: list[str] = []

    def change(address: str, client: int) -> None:
        connection = http.client.HTTPConnection(address, timeout=60)
        number = 0
        with contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                name = f"c{client}-{number}.jpg"
                if ask(connection, "POST", f"/images?name={name}", some[client] + name.encode()) == 201:
                    added.append(name)
                if number % 3 == 2:
                    asked.append(name)
                    if ask(connection, "DELETE", f"/images?name={name}") == 200:
                        removed.append(name)
                number += 1

    with service(folder) as (process, address):
        killer = threading.Timer(seconds, process.kill)
        killer.start()
        until = time.monotonic() + seconds
        together(
            [partial(change, address, number) for number in range(4)]
            + [partial(searching, address, some, number, until, Tally()) for number in range(2)]
        )
    held = set(Gallery.open(folder / "gallery").table["path"])
    lost = [f"{name} was added and is not there" for name in set(added) - set(asked) - held]
    return len(added), len(removed), lost + [f"{name} was removed and is there" for name in set(removed) & held]


def main(arguments: list[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--images", type=int, default=10_000)
    options.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 48])
    given = options.parse_args(arguments)
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder, some = Path(name), pictures()
        make_gallery(folder, given.images, some)
        for batch in (16, 1):
            tallies = searches(folder, some, given.seconds, given.clients, batch)
            for clients, tally in zip(given.clients, tallies, strict=True):
                say(f"batch {batch:2}, {clients:2} clients: {tally.line()}")
                wrong += sum(tally.others.values()) + (not tally.milliseconds)
        added, removed, lost = changes_and_a_kill(folder, some, given.seconds)
        say(f"killed under way: {added} added and {removed} removed as answered, {len(lost)} of these lost")
        wrong += len(lost) + (not added) + (not removed)
        say("\n".join(lost))
    return int(bool(wrong))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
