"""MIOpen: command lines of MIOpenDriver, with its short and long flags and its defaults.

Direction, precision, layout and how a run is done (-F, conv or convfp16, -I, -i, -t, -V ...) are not read: in
convbench they are chosen when the layers run. A name can only stand in a comment behind the command.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from convbench.errors import UsageError, one_line
from convbench.layers import Layer, inexpressible, located, numbered, whole
from convbench.problem import Problem

COMMANDS = ("conv", "convfp16", "convbfp16")
SIZES = {
    "n": ("batchsize", 100),
    "c": ("in_channels", 3),
    "H": ("in_h", 32),
    "W": ("in_w", 32),
    "k": ("out_channels", 32),
    "y": ("fil_h", 3),
    "x": ("fil_w", 3),
    "p": ("pad_h", 0),
    "q": ("pad_w", 0),
    "u": ("conv_stride_h", 1),
    "v": ("conv_stride_w", 1),
    "l": ("dilation_h", 1),
    "j": ("dilation_w", 1),
    "g": ("group_count", 1),
}
"""Short flag: long flag and MIOpenDriver's default."""
FIXED = {
    "mode": ("conv", "a transposed convolution is the backward-data pass of a convolution; list that one"),
    "spatial_dim": ("2", "only two-dimensional convolutions are supported"),
    "pad_mode": ("default", "give the padding with -p and -q"),
    "pad_val": ("0", "only zero padding is supported"),
    "tensor_vect": ("0", "vectorised tensors are not supported"),
}
"""Flags that would change the problem: the one value that leaves it alone, and why no other."""
SHORT = {
    **{"F": "forw", "i": "iter", "V": "verify", "C": "verification_cache", "t": "time", "w": "wall"},
    **{"s": "search", "P": "printconv", "o": "dump_output", "d": "in_data", "e": "weights", "b": "bias"},
    **{"a": "in_bias", "D": "dout_data", "S": "solution", "I": "in_layout", "O": "out_layout"},
    **{"f": "fil_layout", "G": "gpualloc", "U": "in_cast_type", "R": "wei_cast_type", "T": "out_cast_type"},
    **{"!": "in_d", "@": "fil_d", "#": "conv_stride_d", "$": "pad_d", "^": "dilation_d"},
    **{"%": "trans_output_pad_d", "Y": "trans_output_pad_h", "X": "trans_output_pad_w"},
}
"""Flags without a say in a two-dimensional, untransposed problem; ignored."""
_FIXED_SHORT = {"m": "mode", "_": "spatial_dim", "z": "pad_mode", "r": "pad_val", "Z": "tensor_vect"}
_LONG = SHORT | _FIXED_SHORT | {short: long for short, (long, _) in SIZES.items()}


def read(text: str, source: str) -> Iterator[Layer]:
    for number, line in numbered(text):
        command, _, comment = f" {line} ".partition(" # ")
        if not command.strip() or command.lstrip().startswith("#"):
            continue
        with located(source, number):
            layer = Layer.counted(comment.strip(), _problem(_flags(command.split())))
        yield layer


def write(layers: Sequence[Layer]) -> str:
    return "".join(f"{_command(layer)}\n" for layer in layers)


def _flags(words: list[str]) -> dict[str, str]:
    """Long flag names and values. Before the command there may be anything, as in a line of a log."""
    driver = next(
        (i for i, word in enumerate(words) if word.endswith(("MIOpenDriver", "MIOpenDriver.exe"))), -1
    )
    command, *rest = words[driver + 1 :] or [""]
    if command not in COMMANDS:
        raise UsageError(
            f"'{one_line(command)}': must be MIOpenDriver {', '.join(COMMANDS)}; remove the line"
        )
    if len(rest) % 2:
        raise UsageError(f"'{one_line(rest[-1])}': a flag without a value, or a value without a flag; add it")
    return {_long(flag): value for flag, value in zip(rest[::2], rest[1::2], strict=True)}


def _long(flag: str) -> str:
    if flag.startswith("--") and flag[2:] in _LONG.values():
        return flag[2:]
    if flag.startswith("-") and flag[1:] in _LONG:
        return _LONG[flag[1:]]
    known = " ".join(f"-{short}" for short in _LONG)
    raise UsageError(
        f"'{one_line(flag)}' is no flag of MIOpenDriver conv; known: {known} and their long names"
    )


def _problem(flags: dict[str, str]) -> Problem:
    for flag, (harmless, reason) in FIXED.items():
        if flags.get(flag, harmless) != harmless:
            raise UsageError(f"--{flag} {one_line(flags[flag])}: {reason}")
    size = {
        short: whole(flags[long], f"-{short} (--{long})") if long in flags else default
        for short, (long, default) in SIZES.items()
    }
    return Problem(
        n=size["n"],
        c=size["c"],
        k=size["k"],
        h=size["H"],
        w=size["W"],
        r=size["y"],
        s=size["x"],
        pad=((size["p"], size["p"]), (size["q"], size["q"])),
        stride=(size["u"], size["v"]),
        dilation=(size["l"], size["j"]),
        groups=max(size["g"], 1),  # the driver takes -g 0 for an ungrouped convolution
    )


def _command(layer: Layer) -> str:
    p = layer.problem
    if any(before != after for before, after in p.pad):
        raise inexpressible(layer, "miopen", "its padding is the same at both ends")
    if p.flip:
        raise inexpressible(layer, "miopen", "it knows cross-correlation only, not flip")
    values = dict(zip("ncHWkyx", (p.n, p.c, p.h, p.w, p.k, p.r, p.s), strict=True))
    values |= {"p": p.pad[0][0], "q": p.pad[1][0], "u": p.stride[0], "v": p.stride[1]}
    values |= {"l": p.dilation[0], "j": p.dilation[1], "g": p.groups}
    comment = f"  # {layer.counted_label}" if layer.counted_label else ""
    return "MIOpenDriver conv " + " ".join(f"-{flag} {value}" for flag, value in values.items()) + comment
