"""Where cuDNN is: an explicit setting, then the pip packages on `sys.path`, then the system's loader."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

VARIABLE = "CONVBENCH_CUDNN"
NAME = "libcudnn.so.9"
FOLDERS = ("nvidia/cudnn/lib", "nvidia/cu13/lib")
MAPS = Path("/proc/self/maps")


class MissingError(RuntimeError):
    """There is no cuDNN that could be used; the message says how to get one."""


def locate() -> str:
    """What to load: an absolute path, or the bare name where only the system's loader may know it."""
    if setting := os.environ.get(VARIABLE):
        return str(_named(Path(setting)))
    packaged = (Path(entry, folder, NAME) for entry in sys.path for folder in FOLDERS)
    return next((str(file.resolve()) for file in packaged if file.is_file()), NAME)


def _named(setting: Path) -> Path:
    file = setting / NAME if setting.is_dir() else setting
    if not file.is_file():
        raise MissingError(f"{VARIABLE} = {setting}: there is no {NAME}; name the library or its folder")
    return file.resolve()


def resident(maps: Path = MAPS) -> Path | None:
    """The cuDNN that something else (PyTorch, for example) has loaded into this process."""
    if not maps.exists():
        return None
    mapped = (line.split(maxsplit=5)[-1] for line in maps.read_text().splitlines())
    return next((Path(file) for file in mapped if "/libcudnn.so." in file), None)


def load(maps: Path = MAPS) -> ctypes.CDLL:
    """The library itself. Two of different origin would mix their parts, so a second one is refused."""
    path, other = locate(), resident(maps)
    if other is not None and path not in (NAME, str(other)):
        raise MissingError(f"cuDNN is in this process already, from {other}; set {VARIABLE} to that file")
    try:
        return ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise MissingError(
            f"cuDNN cannot be loaded ({error}); pip install 'convbench[cuda13]' (or cuda12), "
            f"or name the library or its folder in {VARIABLE}"
        ) from None
