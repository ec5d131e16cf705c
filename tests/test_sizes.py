"""Byte counts as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convbench.errors import UsageError
from convbench.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("64MiB", 64 << 20),
        ("64 mib", 64 << 20),
        (" 1.5GiB ", 3 << 29),
        ("2GB", 2 * 10**9),
        ("0.1kB", 100),
        ("3TiB", 3 << 40),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "size"), [("80%", 800), ("100%", 1000), ("12.5 %", 125), ("0%", 0)])
def test_a_share_is_of_the_whole(text: str, size: int) -> None:
    assert parse_size(text, whole=1000) == size


@pytest.mark.parametrize(
    "text",
    ["", "MiB", "-1", "1e6", "64 M iB", "64XiB", "1,5GB", ".5GB", "nan", "9" * 400, "1\n2", "64MiB\x1b[31m"],
)
def test_what_is_no_size_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"is no size; write bytes, 64MiB, 2GB or a share such as 80%"
    ) as caught:
        parse_size(text, whole=1000)
    assert str(caught.value).isprintable()


def test_a_share_needs_a_known_whole() -> None:
    with pytest.raises(UsageError):
        parse_size("80%")


@given(st.integers(0, 2**62 // 2**4))
def test_plain_bytes_are_exact(size: int) -> None:
    assert parse_size(str(size)) == parse_size(f"{size}B") == size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "unknown"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (64 << 20, "64 MiB"),
        (123 << 30, "123 GiB"),
        (5000 << 40, "5000 TiB"),
    ],
)
def test_a_size_is_shown_in_binary_units(size: int | None, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 2**50))
def test_what_is_shown_is_within_one_percent(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.01)
