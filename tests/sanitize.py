"""Small cases of the conformance suite for compute-sanitizer, without the pool that would hide bad addresses.

compute-sanitizer --tool memcheck python tests/sanitize.py direct im2col fft winograd
compute-sanitizer --tool racecheck python tests/sanitize.py fft 2/4       a quarter of the problems
"""

from __future__ import annotations

import sys
from itertools import product

from convbench import registry
from convbench.api import Direction, Layout, Precision, Problem
from convbench.conformance import check_case

CASES = (
    "n1c3h6w8k6r3s5p1x2g3",
    "n2c3h7w9k4r3p1",
    "n1c5h8w6k7r3",
    "n2c4h9w12k6r3s2u2x3p1x0",
    "n2c6h9w7k6r3p1g6",
    "n1c2h5w4k3r2p2x3",
    "n2c3h8w7k4r3p0.1x2.0",
    "n1c3h19w17k4r7u2p3",
    "n2c64h8w8k64r3p1",  # whole blocks of channels, for what Hopper's copy engine feeds
    "n2c64h8w8k96r1",
    "n1c32h12w12k64r5p2",
    "n32c16h6w6k32r3u2p1",  # images enough to lie innermost
    "n2c8h8w8k8r3p1g8",
)
IN_PLACE = "n2c72h8w8k96r1"  # what Hopper reads as it is in 16-bit nchw
STORED = ((Precision.FP32, Layout.NCHW), (Precision.FP16, Layout.NHWC))


def main(names: list[str], part: int = 1, parts: int = 1) -> int:
    import cupy

    cupy.cuda.set_allocator(None)
    failures = runs = 0
    for entry in registry.select("cuda", names):
        in_place = product([IN_PLACE], Direction, [(Precision.FP16, Layout.NCHW)])
        every = [*product(CASES, Direction, STORED), *in_place]
        for text, direction, (precision, layout) in every[part - 1 :: parts]:
            problem = Problem.parse(text, direction=direction, precision=precision, layout=layout)
            print(entry.name, problem.label, flush=True)
            for finding in check_case(entry.algorithm, problem):
                runs += finding.skipped is None
                if finding.failure:
                    failures += 1
                    print(entry.name, finding.variant, finding.problem, finding.failure)
    print(f"{runs} variants checked, {failures} failures")
    return int(failures > 0 or runs == 0)


if __name__ == "__main__":
    *names, last = sys.argv[1:]
    if "/" in last:
        sys.exit(main(names, *map(int, last.split("/"))))
    sys.exit(main([*names, last]))
