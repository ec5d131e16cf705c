"""cuDNN's binding: what is found, what is called with which arguments, and what becomes of every status."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from enum import IntEnum
from pathlib import Path

import pytest
from fake_cudnn import FakeCudnn

from convbench import libcudnn, libcudnn_find
from convbench.libcudnn import Handle, Library
from convbench.libcudnn_convolution import Convolution, Geometry, Row
from convbench.libcudnn_find import NAME, VARIABLE, MissingError
from convbench.libcudnn_types import (
    SIGNATURES,
    AlgorithmPerf,
    BackwardDataAlgorithm,
    BackwardFilterAlgorithm,
    ConvolutionMode,
    DataType,
    ForwardAlgorithm,
    MathType,
    Operation,
    TensorFormat,
)

NO_MAPS = Path("/nowhere")  # as if nothing were loaded: other tests may have loaded the installed one
HIGH = 0x7F00_0000_0000  # device addresses do not fit into 32 bits
GEOMETRY = Geometry(
    x=(2, 6, 9, 11),
    w=(4, 3, 3, 5),
    y=(2, 4, 3, 11),
    data=DataType.HALF,
    compute=DataType.FLOAT,
    format=TensorFormat.NHWC,
    pad=(1, 4),
    stride=(3, 1),
    dilation=(1, 2),
    groups=2,
    mode=ConvolutionMode.CONVOLUTION,
)


@pytest.fixture
def fake() -> FakeCudnn:
    return FakeCudnn()


@pytest.fixture
def library(fake: FakeCudnn) -> Library:
    return Library(fake)


# ---- finding the library -----------------------------------------------------------------------------------


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty site-packages that is all there is, and no setting."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "none"), str(tmp_path / "site-packages")])
    yield tmp_path / "site-packages"
    monkeypatch.undo()


def put(folder: Path) -> str:
    folder.mkdir(parents=True)
    (folder / NAME).write_text("not a library")
    return str(folder / NAME)


@pytest.mark.parametrize("folder", ["nvidia/cudnn/lib", "nvidia/cu13/lib"])
def test_pip_packages_are_found_by_absolute_path(packages: Path, folder: str) -> None:
    path = put(packages / folder)
    assert libcudnn_find.locate() == path


def test_the_loader_is_asked_last(packages: Path) -> None:
    assert libcudnn_find.locate() == NAME


def test_a_setting_goes_first(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(packages / "nvidia/cudnn/lib")
    mine = put(tmp_path / "mine")
    for setting in (mine, tmp_path / "mine"):
        monkeypatch.setenv(VARIABLE, str(setting))
        assert libcudnn_find.locate() == mine


def test_a_setting_that_leads_nowhere_is_an_error(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(packages / "nvidia/cudnn/lib")
    monkeypatch.setenv(VARIABLE, "/nowhere")
    with pytest.raises(MissingError, match=r"CONVBENCH_CUDNN = /nowhere: there is no libcudnn\.so\.9"):
        libcudnn_find.locate()


def test_a_file_that_is_no_library_says_how_to_get_one(packages: Path) -> None:
    path = put(packages / "nvidia/cudnn/lib")
    with pytest.raises(MissingError, match=re.escape(path)) as caught:
        libcudnn_find.load(NO_MAPS)
    assert "pip install 'convbench[cuda13]'" in str(caught.value)


def test_no_library_at_all(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libcudnn_find, "NAME", "libnowhere.so.9")
    with pytest.raises(MissingError, match=r"libnowhere\.so\.9.*CONVBENCH_CUDNN"):
        libcudnn_find.load()


def test_a_second_cudnn_is_not_loaded_beside_another(packages: Path, tmp_path: Path) -> None:
    path, maps = put(packages / "nvidia/cudnn/lib"), tmp_path / "maps"
    line = "7f00-7f01 r-xp 00000000 fe:00 123                        {}\n"
    maps.write_text(line.format("/usr/lib/libc.so.6") + line.format("/opt/other/libcudnn.so.9.1.0"))
    with pytest.raises(MissingError, match=r"in this process already, from /opt/other/libcudnn\.so\.9\.1\.0"):
        libcudnn_find.load(maps)
    maps.write_text(line.format(path))
    with pytest.raises(MissingError, match="cannot be loaded"):  # the same file is tried
        libcudnn_find.load(maps)
    maps.write_text("7f00-7f01 r-xp 00000000 fe:00 0\n" + line.format("/opt/other/libcudnn_ops.so.9"))
    assert libcudnn_find.resident(maps) is None


def test_cudnn_8_has_other_status_codes_and_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libcudnn_find, "load", lambda: FakeCudnn(version=80907))
    libcudnn.open_library.cache_clear()
    with pytest.raises(MissingError, match="too old"):
        libcudnn.open_library()


# ---- statuses ----------------------------------------------------------------------------------------------


def test_versions_are_read_as_people_write_them(library: Library) -> None:
    assert (library.number, library.version) == (91900, "9.19.0")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (1001, libcudnn.SetupError),
        (2000, libcudnn.BadParameterError),
        (3000, libcudnn.NotSupportedError),
        (4000, libcudnn.InternalError),
        (4004, MemoryError),
        (5000, libcudnn.ExecutionError),
    ],
)
def test_every_category_is_an_error_of_its_own(
    fake: FakeCudnn, library: Library, status: int, kind: type[Exception]
) -> None:
    fake.status["cudnnCreate"], fake.says[status] = status, "what\n  cuDNN said"
    with pytest.raises(kind) as caught:
        Handle(library)
    assert isinstance(caught.value, libcudnn.CudnnError)
    assert caught.value.status == status
    assert re.fullmatch(r"cudnnCreate: CUDNN_STATUS_\w+: what cuDNN said", str(caught.value))
    fake.says.clear()
    with pytest.raises(kind, match=r"CUDNN_STATUS_\w+$"):  # its words were those of the first failure
        Handle(library)


def test_categories_do_not_mix(fake: FakeCudnn, library: Library) -> None:
    fake.status["cudnnCreate"] = 3000
    with pytest.raises(libcudnn.CudnnError) as caught:
        Handle(library)
    assert type(caught.value) is libcudnn.NotSupportedError


def test_a_function_that_is_gone_is_a_refusal(fake: FakeCudnn, library: Library) -> None:
    fake.removed.add("cudnnConvolutionForward")
    with pytest.raises(libcudnn.NotSupportedError) as caught:
        library.function("cudnnConvolutionForward")
    assert str(caught.value) == "cudnnConvolutionForward was removed from this cuDNN (9.19.0)"
    Handle(library)  # the others still work


# ---- objects -----------------------------------------------------------------------------------------------


def test_a_stream_is_set_when_it_changes(fake: FakeCudnn, library: Library) -> None:
    handle = Handle(library)
    for stream in (HIGH, HIGH, HIGH + 8, HIGH):
        handle.use(stream)
    assert [stream for _, stream in fake.named("cudnnSetStream")] == [HIGH, HIGH + 8, HIGH]


def test_what_is_closed_or_forgotten_is_destroyed(fake: FakeCudnn, library: Library) -> None:
    convolution = Convolution(library, Operation.FORWARD, GEOMETRY)
    assert len(fake.alive) == 4
    convolution.close()
    convolution.close()
    assert not fake.alive
    forgotten = Convolution(library, Operation.FORWARD, GEOMETRY)
    del forgotten
    gc.collect()
    assert not fake.alive


@pytest.mark.parametrize("function", ["SetTensor4dDescriptor", "SetConvolutionGroupCount"])
def test_a_description_that_fails_leaves_nothing(fake: FakeCudnn, library: Library, function: str) -> None:
    fake.status[f"cudnn{function}"] = 3000
    with pytest.raises(libcudnn.NotSupportedError):
        Convolution(library, Operation.FORWARD, GEOMETRY)
    gc.collect()
    assert not fake.alive
    assert fake.calls


def test_descriptors_get_their_arguments_in_the_order_of_the_headers(
    fake: FakeCudnn, library: Library
) -> None:
    convolution = Convolution(library, Operation.FORWARD, GEOMETRY)
    convolution.use_math(MathType.TENSOR_OP)
    nhwc, half, floating, flipped = 1, 2, 0, 0
    tensors = [arguments[1:] for arguments in fake.named("cudnnSetTensor4dDescriptor")]
    assert tensors == [(nhwc, half, 2, 6, 9, 11), (nhwc, half, 2, 4, 3, 11)]
    assert fake.named("cudnnSetFilter4dDescriptor")[0][1:] == (half, nhwc, 4, 3, 3, 5)
    described = fake.named("cudnnSetConvolution2dDescriptor")[0][1:]
    assert described == (1, 4, 3, 1, 1, 2, flipped, floating)
    assert fake.named("cudnnSetConvolutionGroupCount")[0][1] == 2
    assert fake.named("cudnnSetConvolutionMathType")[0][1] == 1


def test_an_output_of_another_size_is_found_out(library: Library) -> None:
    wrong = replace(GEOMETRY, y=(2, 4, 4, 11))
    with pytest.raises(ValueError, match=r"\(2, 4, 4, 11\) by our formula, \(2, 4, 3, 11\) by cuDNN's"):
        Convolution(library, Operation.FORWARD, wrong)


# ---- the three operations ----------------------------------------------------------------------------------

ALGORITHM = {
    Operation.FORWARD: ForwardAlgorithm.WINOGRAD_NONFUSED,
    Operation.BACKWARD_DATA: BackwardDataAlgorithm.WINOGRAD_NONFUSED,
    Operation.BACKWARD_FILTER: BackwardFilterAlgorithm.WINOGRAD_NONFUSED,
}
ORDER = {
    Operation.FORWARD: ("x", "w", "y"),
    Operation.BACKWARD_DATA: ("w", "y", "x"),
    Operation.BACKWARD_FILTER: ("x", "y", "w"),
}


def roles(fake: FakeCudnn) -> dict[str, int]:
    """Descriptors by what they describe."""
    sizes = {facts.get("sizes"): pointer for pointer, facts in fake.alive.items()}
    conv = next(p for p, facts in fake.alive.items() if facts["kind"] == "ConvolutionDescriptor")
    return {"x": sizes[GEOMETRY.x], "w": sizes[GEOMETRY.w], "y": sizes[GEOMETRY.y], "conv": conv}


def test_the_same_name_has_three_numbers() -> None:
    assert [ALGORITHM[operation].value for operation in Operation] == [7, 5, 5]
    assert [operation.algorithms["FFT"].value for operation in Operation] == [4, 2, 2]
    assert [operation.algorithms["FFT_TILING"].value for operation in Operation] == [5, 3, 6]


@pytest.mark.parametrize("operation", list(Operation))
def test_questions_take_descriptors_in_the_order_of_the_operation(
    fake: FakeCudnn, library: Library, operation: Operation
) -> None:
    handle, convolution = Handle(library), Convolution(library, operation, GEOMETRY)
    convolution.use_math(MathType.FMA)
    role, algorithm = roles(fake), ALGORITHM[operation]
    fake.workspaces[algorithm, MathType.FMA] = 5 << 32
    assert convolution.workspace(handle, algorithm) == 5 << 32
    first, second, result = (role[name] for name in ORDER[operation])
    asked = fake.named(f"cudnnGetConvolution{operation}WorkspaceSize")[0]
    assert asked[:6] == (handle.pointer.value, first, second, role["conv"], result, algorithm)
    convolution.advice(handle)
    asked = fake.named(f"cudnnGetConvolution{operation}Algorithm_v7")[0]
    assert asked[:6] == (handle.pointer.value, first, second, role["conv"], result, 16)


@pytest.mark.parametrize("operation", list(Operation))
def test_launch_and_find_take_addresses_beside_their_descriptors(
    fake: FakeCudnn, library: Library, operation: Operation
) -> None:
    handle, convolution = Handle(library), Convolution(library, operation, GEOMETRY)
    convolution.use_math(MathType.TENSOR_OP)
    role, algorithm = roles(fake), ALGORITHM[operation]
    first, second, result = (role[name] for name in ORDER[operation])
    a, b, out, workspace = (HIGH + 256 * index for index in range(4))
    fake.status[f"cudnnConvolution{operation}"] = 5000  # there is no memory behind these addresses
    with pytest.raises(libcudnn.ExecutionError, match=f"cudnnConvolution{operation}"):
        convolution.launch(handle, algorithm, 3 << 32)(a, b, out, workspace)
    got = fake.named(f"cudnnConvolution{operation}")[0]
    operands = first, a, second, b, role["conv"]
    assert (got[0], *got[2:10]) == (handle.pointer.value, *operands, algorithm, workspace, 3 << 32)
    assert got[11:] == (result, out)
    assert convolution.find(handle, a, b, out, None, 0) == []
    got = fake.named(f"cudnnFindConvolution{operation}AlgorithmEx")[0]
    assert got[:9] == (handle.pointer.value, *operands, result, out, 16)
    assert got[11:] == (None, 0)


def test_a_row_has_the_layout_of_the_headers() -> None:
    names = ("algo", "status", "time", "memory", "determinism", "math", "reserved")
    assert [getattr(AlgorithmPerf, name).offset for name in names] == [0, 4, 8, 16, 24, 28, 32]
    assert ctypes.sizeof(AlgorithmPerf) == 48


def test_rows_that_failed_are_garbage_and_dropped(fake: FakeCudnn, library: Library) -> None:
    handle, convolution = Handle(library), Convolution(library, Operation.BACKWARD_FILTER, GEOMETRY)
    convolution.use_math(MathType.DEFAULT)
    fake.advice = [
        (5, 0, -1.0, 6 << 32, 1, 3),
        (77, 3000, float("nan"), 2**64 - 1, -9, 1234),
        (3, 0, -1.0, 0, 0, 0),
    ]
    first, second = convolution.advice(handle)
    nonfused, third = BackwardFilterAlgorithm.WINOGRAD_NONFUSED, BackwardFilterAlgorithm.ALGO_3
    assert first == Row(nonfused, MathType.FMA, 6 << 32, deterministic=True, ms=-1.0)
    assert second == Row(third, MathType.DEFAULT, 0, deterministic=False, ms=-1.0)
    assert first.algorithm.name == "WINOGRAD_NONFUSED"


def test_words_about_failed_rows_are_not_another_failure_s_reason(fake: FakeCudnn, library: Library) -> None:
    handle, convolution = Handle(library), Convolution(library, Operation.FORWARD, GEOMETRY)
    convolution.use_math(MathType.DEFAULT)
    fake.words = "about some row"
    convolution.advice(handle)
    fake.status["cudnnGetConvolutionForwardWorkspaceSize"] = 3000
    with pytest.raises(libcudnn.NotSupportedError) as caught:
        convolution.workspace(handle, ForwardAlgorithm.FFT)
    assert caught.value.reason == "CUDNN_STATUS_NOT_SUPPORTED"


# ---- against an installed cuDNN, with or without a GPU -----------------------------------------------------


@pytest.fixture
def installed() -> Library:
    try:
        return Library(libcudnn_find.load())
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture
def headers(installed: Library) -> str:
    include = Path(libcudnn_find.locate()).parents[1] / "include"
    files = sorted(include.glob("cudnn_*_v9.h"))
    if not files:
        pytest.skip(f"no headers in {include}")
    return re.sub(r"/\*.*?\*/", "", "".join(file.read_text() for file in files), flags=re.DOTALL)


def letter(argument: str) -> str:
    pointer = re.search(r"[*\[]|Handle_t|Descriptor_t|cudaStream_t", argument)
    return "p" if pointer else "n" if "size_t" in argument else "i"


def test_every_function_is_there(installed: Library) -> None:
    for name in SIGNATURES:
        installed.function(name)


def test_signatures_are_those_of_the_headers(headers: str) -> None:
    for name, signature in SIGNATURES.items():
        arguments = re.search(rf"\b{name}\(([^)]*)\)", headers)
        assert arguments, name
        declared = [one for one in arguments[1].split(",") if one.strip() != "void"]
        assert "".join(map(letter, declared)) == signature, name


def test_numbers_are_those_of_the_headers(headers: str) -> None:
    prefixes: dict[type[IntEnum], str] = {
        DataType: "CUDNN_DATA_{}",
        TensorFormat: "CUDNN_TENSOR_{}",
        ConvolutionMode: "CUDNN_{}",
        ForwardAlgorithm: "CUDNN_CONVOLUTION_FWD_ALGO_{}",
        BackwardDataAlgorithm: "CUDNN_CONVOLUTION_BWD_DATA_{}",
        BackwardFilterAlgorithm: "CUDNN_CONVOLUTION_BWD_FILTER_{}",
    }
    numbers = dict(re.findall(r"\b(CUDNN_\w+)\s*=\s*(\d+)", headers))
    for table, pattern in prefixes.items():
        for member in table:
            word = member.name if "BWD" not in pattern else f"ALGO_{member.name.removeprefix('ALGO_')}"
            assert int(numbers[pattern.format(word)]) == member, pattern.format(word)
    for table, pattern in list(prefixes.items())[3:]:
        count = pattern.format("ALGO_COUNT" if "BWD" in pattern else "COUNT")
        assert int(numbers[count]) == len(table)
    for math in MathType:
        name = math.name.partition("_ALLOW")
        assert int(numbers[f"CUDNN_{name[0]}_MATH{name[1]}{name[2]}"]) == math


def test_rows_are_those_of_the_headers(headers: str) -> None:
    bodies = re.findall(r"typedef struct cudnnConvolution\w+AlgoPerfStruct \{(.*?)\}", headers, re.DOTALL)
    assert len(bodies) == 3
    for body in bodies:
        fields = re.findall(r"(\w+) (\w+)(?:\[3\])?;", body)
        kinds = ["float" if k == "float" else "size_t" if k == "size_t" else "int" for k, _ in fields]
        assert kinds == ["int", "int", "float", "size_t", "int", "int", "int"]
        assert [name for _, name in fields][:5] == ["algo", "status", "time", "memory", "determinism"]


@pytest.mark.parametrize("operation", list(Operation))
def test_descriptors_are_understood(installed: Library, operation: Operation) -> None:
    """The real library computes the output's size from them, and agrees with ours; groups, dilation, NHWC."""
    Convolution(installed, operation, GEOMETRY).close()


def test_a_bad_description_is_named(installed: Library) -> None:
    with pytest.raises(libcudnn.BadParameterError, match="cudnnSetTensor4dDescriptor: CUDNN_STATUS_BAD_PAR"):
        installed.tensor(DataType.FLOAT, TensorFormat.NCHW, (1, -1, 1, 1))
