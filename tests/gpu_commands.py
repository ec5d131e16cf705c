"""The commands of README and docs that measure on a GPU, executed: `python tests/gpu_commands.py [SECONDS]`.

Needs a GPU; several share the work. Prints a table of command, end and last words, and leaves with exit
code 1 if one failed. A command that takes longer than so many seconds (default: 45) is interrupted as by a
user, and must stop in order. One that is asked for a verdict (--fail-on) may end with it.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from documents import FOUND, STOPPED, Words, ended_well, for_gpu

INTERRUPTED = 130


def gpus() -> list[str]:
    if chosen := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return chosen.split(",")
    told = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    return [str(number) for number, _ in enumerate(told.stdout.splitlines())]


def execute(words: Words, gpu: str, seconds: float, folder: Path) -> tuple[str, str]:
    """How a command ended, and the last line of what it said."""
    everything = "--devices" in words
    environment = os.environ | ({} if everything else {"CUDA_VISIBLE_DEVICES": gpu})
    process = subprocess.Popen(
        [sys.executable, "-m", "convbench", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    end = STOPPED if process.returncode in (INTERRUPTED, -signal.SIGINT) else str(process.returncode)
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    return end, last.replace("|", "\\|")


def main(seconds: float = 45) -> int:
    free: SimpleQueue[str] = SimpleQueue()
    for gpu in (cards := gpus()):
        free.put(gpu)
    todo = [words for words in FOUND if for_gpu(words)]
    alone = [words for words in todo if "--devices" in words]  # these take every GPU

    def one(words: Words) -> tuple[str, str]:
        gpu = free.get()
        try:
            with tempfile.TemporaryDirectory() as folder:
                return execute(words, gpu, seconds, Path(folder))
        finally:
            free.put(gpu)

    print("| command | end | last words |\n| --- | --- | --- |")
    failed = False
    for group, workers in (([words for words in todo if words not in alone], len(cards)), (alone, 1)):
        with ThreadPoolExecutor(workers) as pool:
            for words, (end, last) in zip(group, pool.map(one, group), strict=True):
                print(f"| `convbench {shlex.join(words)}` | {end} | {last} |", flush=True)
                failed |= not ended_well(words, end)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:2])))
