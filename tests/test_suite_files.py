"""Suite files: what they may hold, and what a bad one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from convbench.errors import UsageError
from convbench.layers import Layer
from convbench.problem import Problem
from convbench.suites import load_suite, select


def test_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "net.csv"
    path.write_bytes(
        b"\xef\xbb\xbfname,n,c,h,w,k,r,s,pad_top,pad_bottom,pad_left,pad_right,repeat,network,flip\r\n"
        b'"a, b",1,4,9,8,4,3,2,0,1,2,0,5,net,true\r\n\r\n'
    )
    suite = load_suite(str(path))
    assert suite.name == "net"
    assert suite.layers == (Layer("a, b", Problem.parse("n1c4h9w8k4r3s2p0.1x2.0flip"), 5, "net"),)


HEADER = "name,n,c,h,w,k,r,s,pad_h,pad_w,stride_h,stride_w,groups,dilation\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{HEADER}a,1,4,9,9,4,3,3,x,0,1,1,1,1\n", "line 2: column 'pad_h': 'x': must be a whole number"),
        (f"{HEADER}a,1,4,9,9,4,3,3,-1,0,1,1,1,1\n", "line 2: column 'pad_h': '-1': must be a whole number"),
        (f"{HEADER}\na,,4,9,9,4,3,3,0,0,1,1,1,1\n", "line 3: column 'n': '': must be a whole number"),
        (f"{HEADER}a,1,4,9,9,4,3,3,0,0,1,1,3,1\n", "line 2: g3 in "),
        (f"{HEADER}a,1,4,9,9\n", "line 2: 5 cells, but the header has 14 columns"),
        (f"{HEADER}\x1b[31m,1,4,9,9,4,3,3,0,0,1,1,1,1\n", r"line 2: name '\x1b[31m': control characters"),
        (f'{HEADER}"a,1,4,9,9,4,3,3,0,0,1,1,1,1\n', "not valid CSV: unexpected end of data"),
        (HEADER, "no layers when read as csv"),
        ("n,c,h,k,r,colour\n", "line 1: no column named 'colour'"),
        ("n,c,h,k,r,r\n", "line 1: column 'r' is given twice"),
        ("name,n,c,h,w,k,s\n", "line 1: the header lacks the column 'r'"),
        ("n,c,h,k,r,pad_h,pad_top\n", "'pad_h' and 'pad_top' contradict each other"),
        ("n,c,h,k,r,flip\n1,1,9,1,3,maybe\n", "line 2: column 'flip': 'maybe': must be 0, 1, true or false"),
        ("n,c,h,k,r,repeat\n1,1,9,1,3,0\n", "line 2: repeat 0 of "),
        ("n,c,h,k,r,network\n1,1,9,1,3,a:b\n", "line 2: network 'a:b'"),
        ("", "the header lacks the column 'n'"),
        ("n,c,h,k,r\n" + "1,1,9,1," + "3" * 200_000 + "\n", "not valid CSV: field larger than field limit"),
    ],
)
def test_a_wrong_csv_names_file_line_column_and_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.csv").write_text(content)
    with pytest.raises(UsageError) as caught:
        load_suite("bad.csv")
    assert str(caught.value).startswith("bad.csv") and str(caught.value).isprintable()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"first: n1c1h9k1r3\nsecond: n1c1h9k1\n", "line 2: 'n1c1h9k1' lacks r"),
        (b"n1c1h9k1r3\n\xe4hm n1c1h9k1r3\n", "line 2: byte 0xe4 is not UTF-8"),
        (b"a\x07b n1c1h9k1r3\n", r"line 1: name 'a\x07b': control characters"),
        (b"x" * 300 + b": n1c1h9k1r3\n", "longer than 200 characters"),
        (b"n1c1h9k1r3 *0\n", "line 1: repeat 0"),
        (b"n1c1h9k1r3 *99999999999\n", "line 1: repeat '99999999999': must be a whole number"),
        (b"# nothing\n\n", "no layers when read as text"),
        (b"#" * 1_000_001, "is larger than 1000000 bytes"),
    ],
)
def test_a_wrong_text_file_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.suite").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_suite("bad.suite")
    assert "bad.suite" in str(caught.value) and str(caught.value).isprintable()
    assert message in str(caught.value)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read suite file"):
        load_suite(str(tmp_path))


def test_files_are_found_without_a_suffix_but_not_before_built_in_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("layers", "quick"):
        Path(name).write_text("n2c3h8k4r3p1")
    assert len(select(["layers"]).layers) == 1
    assert len(select(["quick"]).layers) == 5
    assert len(select(["./quick"]).layers) == 1
