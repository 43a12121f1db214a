#!/usr/bin/env python3
"""Runs `hemorrhage-tf fit --strategy multiworker` as several workers on this machine.

    python local.py 2 head_ct --out runs/both

The first argument is the number of workers; what follows goes to `fit` as it is. Each line that a
worker writes begins with its number. Where one fails the others are ended. The exit code is the
highest of the workers'. It needs Python's standard library alone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import IO

GRACE_SECONDS = 20.0  # between asking a worker to end and ending it


def free_addresses(count: int) -> list[str]:
    """Finds addresses on the loopback device whose ports are free now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def start(command: list[str], addresses: list[str], index: int) -> subprocess.Popen:
    """Starts one worker, in a session of its own: a signal reaches it through this program only."""
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    return subprocess.Popen(
        command,
        env={**os.environ, "TF_CONFIG": json.dumps(config)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
        errors="replace",
    )


def copy_lines(source: IO[str], target: IO[str], index: int) -> None:
    """Copies what a worker writes, with its number before each line."""
    for line in source:
        target.write(f"[{index}] {line}" if line.endswith("\n") else f"[{index}] {line}\n")
        target.flush()


def main(arguments: list[str]) -> int:
    """Starts the workers, waits for them, and gives the highest exit code."""
    if len(arguments) < 2 or not arguments[0].isdigit() or int(arguments[0]) < 1:
        print(__doc__, file=sys.stderr)
        return 2
    program = shutil.which("hemorrhage-tf")
    if program is None:
        print("hemorrhage-tf is not installed: pip install hemorrhage-tf", file=sys.stderr)
        return 2
    count = int(arguments[0])
    command = [program, "fit", *arguments[1:], "--strategy", "multiworker"]
    addresses = free_addresses(count)
    workers: list[subprocess.Popen] = []

    def pass_on(number: int, _: object) -> None:
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    copiers = []
    for index in range(count):
        worker = start(command, addresses, index)
        workers.append(worker)
        for source, target in ((worker.stdout, sys.stdout), (worker.stderr, sys.stderr)):
            copiers.append(threading.Thread(target=copy_lines, args=(source, target, index)))
            copiers[-1].start()

    asked_at = None
    while any(worker.poll() is None for worker in workers):
        if asked_at is None and any(worker.poll() for worker in workers):
            # The others say of themselves that a worker was lost; who does not is asked to end.
            asked_at = time.monotonic()
            asked = False
        if asked_at is not None:
            waited = time.monotonic() - asked_at
            if waited > GRACE_SECONDS and not asked:
                asked = True
                pass_on(signal.SIGTERM, None)
            if waited > 2 * GRACE_SECONDS:
                pass_on(signal.SIGKILL, None)
        time.sleep(0.1)
    for copier in copiers:
        copier.join()
    # A worker that a signal ended has that signal's number, negative; a shell says 128 more.
    codes = [worker.returncode for worker in workers]
    return max(code if code >= 0 else 128 - code for code in codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
