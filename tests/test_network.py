"""Asking again: which errors pass, how long the waits are, and that what does not pass is raised at once."""

import pytest

from hfprobe.network import Retry, call, passes, short


class TransportError(Exception):
    """As httpx has it."""

    __module__ = "httpx2"


class Answer:
    def __init__(self, status_code):
        self.status_code = status_code


class HubError(OSError):
    def __init__(self, status):
        super().__init__(f"status {status}")
        self.response = Answer(status)


class OfflineModeIsEnabled(ConnectionError):
    """As huggingface_hub has it."""


def raised_from(outer, inner):
    try:
        raise outer from inner
    except BaseException as error:
        return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionResetError(), True), (TimeoutError(), True), (TransportError(), True),
        (HubError(503), True), (HubError(429), True), (HubError(404), False), (HubError(401), False),
        (FileNotFoundError(), False), (OSError("disk"), False), (ValueError(), False), (OfflineModeIsEnabled(), False),
        (raised_from(FileNotFoundError("not in the cache"), TransportError()), True),
        (raised_from(ConnectionError("cannot reach"), HubError(403)), False),
        (raised_from(ConnectionError("cannot reach"), OfflineModeIsEnabled()), False),
    ],
)  # fmt: skip
def test_errors_that_pass(error, expected):
    assert passes(error) is expected


def test_waits_double_and_end():
    waits, tries = [], []

    def fail():
        tries.append(1)
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        call(fail, "asking", Retry(tries=6, first=2.0, longest=10.0), waits.append)
    assert waits == [2.0, 4.0, 8.0, 10.0, 10.0] and len(tries) == 6


def test_what_does_not_pass_is_raised_at_once():
    waits = []
    with pytest.raises(KeyError):
        call(lambda: {}["x"], "asking", sleep=waits.append)
    assert waits == []


def test_errors_in_a_circle_end():
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert not passes(one)


def test_a_reason_is_one_printable_line():
    assert short(ValueError("unknown type \x0e\nof a column")) == "unknown type \\x0e"
    assert len(short(ValueError("x" * 1000))) <= 203
