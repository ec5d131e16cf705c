"""NVBench's side: `python -m convbench.selftest_nvbench FOLDER` writes its medians there."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any


def main(folder: Path) -> None:
    import cupy
    from cuda import bench
    from cuda.bench.results import BenchmarkResult

    from convbench.devices import open_device
    from convbench.selftest_peers import launches

    names = {}
    for index, (name, call) in enumerate(launches(open_device("cuda")).items()):

        def measured(state: Any, call: Any = call) -> None:
            def launch(launcher: Any) -> None:
                with cupy.cuda.ExternalStream(launcher.get_stream().addressof()):
                    call()

            state.exec(launch, batched=False)

        measured.__name__ = f"launch_{index}"
        names[measured.__name__] = name
        bench.register(measured)
    file = folder / "nvbench.json"
    bench.run_all_benchmarks(["nvbench", "--jsonbin", str(file), "--timeout", "5"])
    medians = {}
    for key, states in BenchmarkResult.from_json(file).centers(statistics.median).items():
        value = next(iter(states.values()))
        if value is not None:
            medians[names[key]] = value
    (folder / "medians.json").write_text(json.dumps(medians))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
