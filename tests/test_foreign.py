"""The formats of benchdnn, DeepBench and MIOpenDriver: what their lines mean, and which are refused."""

from __future__ import annotations

import pytest

from convbench.errors import UsageError
from convbench.formats import kind_of, read
from convbench.layers import Layer
from convbench.problem import Problem


def one(text: str, kind: str) -> Layer:
    (layer,) = read(text, kind)
    return layer


def text_of(text: str, kind: str) -> str:
    return str(one(text, kind).problem)


def complaint(text: str, kind: str) -> str:
    with pytest.raises(UsageError) as caught:
        read(text, kind)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 700
    return message


# ---- benchdnn ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("descriptor", "expected"),
    [
        ("mb50ic3ih224oc64oh112kh7sh2ph3", "n50c3h224k64r7u2p3"),
        ("g1mb1_ic3oc64_ih224oh112kh7sh2dh0ph3_iw224ow112kw7sw2dw0pw3", "n1c3h224k64r7u2p3"),
        ("ic8ih10oc8kh3", "n2c8h10k8r3"),  # batch 2, no padding, output computed
        ("ic8ih10oc8kh3dh1ph2", "n2c8h10k8r3d2p2"),  # dense dilation is 0
        ("ic8ih10iw6oc8kh3kw1ph1", "n2c8h10w6k8r3s1p1x0"),
        ("ic8ih10oc8oh10kh3", "n2c8h10k8r3p1"),  # padding from the output
        ("ic8ih224oc8oh112kh3sh2", "n2c8h224k8r3u2p0.1"),  # "same" puts the odd pixel at the end
        ("ic8ih224oc8oh112kh3sh2ph1", "n2c8h224k8r3u2p1"),  # the last row is never read
        ("ic64ih56oc256oh28kh1sh2", "n2c64h56k256r1u2"),
        ("ic8ih4oc8oh4kh2ph0", "n2c8h4k8r2p0.1"),
        ("g128ic128iw16oc128ow16kw3sw1pw1", "n2c128h1w16k128r1s3p0x1g128"),  # one-dimensional
        ("ic8oc8_iw5ow2kw3sw1dw2pw3ph0", "n2c8h1w5k8r1s3p0x3.0d1x3"),
        ("mb64_ic64id1ih56iw56_oc128_kd1kh3kw3_sh1sw1_ph0pw0", "n64c64h56k128r3"),
    ],
)
def test_a_descriptor(descriptor: str, expected: str) -> None:
    assert one(descriptor, "benchdnn").problem == Problem.parse(expected)


def test_a_batch_file() -> None:
    text = """
# --mb holds until --reset
--reset --dir=FWD_B,BWD_D --attr-post-ops=relu -v1
mb8ic8ih10oc8kh3_n"net:first layer*3"
--mb=4
mb8ic8ih10oc8kh3nplain   # a comment
./benchdnn --conv --mb=0 mb8ic8ih10oc8kh3 mb9ic8ih10oc8kh3
"""
    found = [(layer.problem.n, layer.name, layer.network, layer.repeat) for layer in read(text, "benchdnn")]
    assert found == [
        (8, "first layer", "net", 3),
        (4, "plain", "", 1),
        (8, "n8c8h10w10k8r3s3p0x0u1x1d1x1g1", "", 1),
        (9, "n9c8h10w10k8r3s3p0x0u1x1d1x1g1", "", 1),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--batch=shapes_resnet_50", "a path inside a file is not followed"),
        ("--deconv", "backward-data pass of a convolution"),
        ("--match=.*3x3.*", "regular expressions are not applied"),
        ("--swap-axes=1", "this option may change the problem"),
        ("--mb=1,2", "--mb '1,2': must be a whole number"),
        ("\n\nmb1ic8ih10oc8kh3zz4", "input, line 3: 'zz4' is no benchdnn size"),
        ("mb1ic8ih10oc8kh", "'kh' is no benchdnn size"),
        ("mb1ic8ih10oc8kh3ph-1", "'ph-1' is no benchdnn size"),
        ("mb1mb2ic8ih10oc8kh3", "mb is given twice"),
        ("mb1ic8ih10kh3", "'oc' is missing"),
        ("mb1ic8oc8", "no image size is given"),
        ("mb1ic8ih10oc8", "'kh' is missing"),
        ("mb1ic8ih10oc8kh3sh0", "'sh' is missing or 0"),
        ("mb1ic8id4ih10oc8kd3kh3", "the problem has a depth"),
        ("mb1ic8ih10oc8kh3oh7ph0", "oh7 is not what the other sizes give"),
        ("g3mb1ic8ih10oc8kh3", "groups must divide c = 8"),
    ],
)
def test_a_bad_batch_file_is_one_line(text: str, message: str) -> None:
    assert message in complaint(text, "benchdnn")


# ---- DeepBench --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        "700 161 1 4 32 20 5 0 1 4 2",
        "700, 161, 1, 4, 32, 20, 5, 0, 1, 4, 2",
        "w h c n k f_w(s) f_h(r) pad_w pad_h stride_w stride_h precision\n"
        "700\t161\t1\t4\t32\t20\t5\t0\t1\t4\t2\tfloat\t0.42\tWINOGRAD",
        "std::vector<std::tuple<unsigned int>> set = {\n"
        "    //std::make_tuple(7, 7, 512, 1, 512, 3, 3, 1, 1, 1, 1), disabled\n"
        "    std::make_tuple(700, 161, 1, 4, 32, 20, 5, 0, 1, 4, 2), // note\n};",
    ],
)
def test_a_deepbench_row_is_width_first(row: str) -> None:
    assert text_of(row, "deepbench") == "n4c1h161w700k32r5s20p1x0u2x4d1x1g1"
    assert kind_of("rows", row) == "deepbench"


def test_several_tuples_share_a_line() -> None:
    row = "std::make_tuple(7, 7, 8, 1, 8, 3, 3, 1, 1, 1, 1)"
    assert len(read(f"{{{row}, {row}}}", "deepbench")) == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("\n7 7 8 1 8 3 3 1 1 1", "input, line 2: 10 numbers; a DeepBench row has 11"),
        ("7 7 8 1 8 3 3 1 1 1 one", "column 'stride_h': 'one': must be a whole number"),
        ("std::make_tuple(7, 7, 8,\n1, 8, 3, 3, 1, 1, 1, 1)", "must open and close on one line"),
        ("7 7 8 0 8 3 3 1 1 1 1", "n = 0"),
        ("# nothing", "no layers when read as deepbench"),
    ],
)
def test_a_bad_deepbench_row_is_one_line(row: str, message: str) -> None:
    assert message in complaint(row, "deepbench")


# ---- MIOpen -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("MIOpenDriver conv", "n100c3h32k32r3"),
        (
            "./bin/MIOpenDriver convfp16 -n 8 -c 64 -H 28 -W 14 -k 32 -y 5 -x 3 -p 2 -q 1 -u 2 -v 1 -l 2 "
            "-j 3 -g 4 -m conv -F 1 -t 1 -V 0 -_ 2",
            "n8c64h28w14k32r5s3p2x1u2x1d2x3g4",
        ),
        (
            "MIOpen(HIP): Command [LogCmd] ./bin/MIOpenDriver convbfp16 --batchsize 8 --in_channels 64 "
            "--in_h 28 --in_w 14 --out_channels 32 --fil_h 5 --fil_w 3 --pad_h 2 --pad_w 1 --conv_stride_h 2 "
            "--conv_stride_w 1 --dilation_h 2 --dilation_w 3 --group_count 4 --mode conv --in_layout NHWC",
            "n8c64h28w14k32r5s3p2x1u2x1d2x3g4",
        ),
        ("conv -n 1 -g 0", "n1c3h32k32r3"),
    ],
)
def test_a_driver_command(command: str, expected: str) -> None:
    assert one(command, "miopen").problem == Problem.parse(expected)
    assert kind_of("log", command) == "miopen" or command.endswith("conv")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("MIOpenDriver conv -m trans", "--mode trans: a transposed convolution is the backward-data pass"),
        ("MIOpenDriver conv --spatial_dim 3", "only two-dimensional"),
        ("MIOpenDriver conv -z same", "give the padding with -p and -q"),
        ("MIOpenDriver conv -r 1", "only zero padding"),
        ("MIOpenDriver conv -n", "'-n': a flag without a value"),
        ("MIOpenDriver conv -n many", "-n (--batchsize) 'many': must be a whole number"),
        ("MIOpenDriver conv --batch 3", "'--batch' is no flag of MIOpenDriver conv"),
        ("\nMIOpenDriver pool -n 3", "input, line 2: 'pool': must be MIOpenDriver conv"),
        ("MIOpenDriver", "'': must be MIOpenDriver conv"),
        ("MIOpenDriver conv -c 5 -g 2", "groups must divide c = 5"),
    ],
)
def test_a_bad_driver_command_is_one_line(command: str, message: str) -> None:
    assert message in complaint(command, "miopen")
