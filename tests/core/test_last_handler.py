"""Signals become an exception that runs every `finally`, and codes that name them."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from robustcl.cli import methods
from robustcl.cli.main import certify
from robustcl.core import last_handler as stopping
from robustcl.core.last_handler import Stopped, signals_stop, stop_code

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    # Under nohup, and in the background of a script, signals are ignored from the start.
    before = {one: signal.getsignal(one) for one in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


def wait_for_signals() -> None:
    for _ in range(1000):  # handlers run between two steps of Python
        pass


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_runs_what_cleans_up_and_leaves_no_handler(number: signal.Signals) -> None:
    before, cleaned = {one: signal.getsignal(one) for one in SIGNALS}, []

    @signals_stop()
    def work() -> None:
        try:
            os.kill(os.getpid(), number)
            wait_for_signals()
        finally:
            cleaned.append(True)

    with pytest.raises(Stopped) as caught:
        work()
    assert cleaned and stop_code(caught.value) == 128 + number
    assert {one: signal.getsignal(one) for one in SIGNALS} == before


def test_what_a_command_came_to_is_not_changed_while_its_process_ends() -> None:
    before = {one: signal.getsignal(one) for one in SIGNALS}
    try:
        with signals_stop(at_end=True):
            pass
        for number in SIGNALS:
            os.kill(os.getpid(), number)  # would end this process, or raise
        wait_for_signals()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_the_second_of_one_request_cuts_no_cleaning_short(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    cleaned = []

    @signals_stop()
    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            wait_for_signals()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # torchrun's, after the terminal's
            wait_for_signals()
            cleaned.append(True)
            monkeypatch.setattr(stopping, "GRACE", -1.0)
            os.kill(os.getpid(), signal.SIGTERM)  # whoever waits no longer
            wait_for_signals()

    with pytest.raises(Stopped) as caught:
        work()
    assert cleaned and caught.value.number == signal.SIGINT
    assert ended == [128 + signal.SIGTERM]


def test_what_is_ignored_or_handled_stays_so() -> None:
    seen = []
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    terminate = signal.signal(signal.SIGTERM, lambda *_: seen.append(True))
    try:
        with signals_stop():
            for number in (signal.SIGHUP, signal.SIGTERM):
                os.kill(os.getpid(), number)
            wait_for_signals()
    finally:
        signal.signal(signal.SIGHUP, hangup)
        signal.signal(signal.SIGTERM, terminate)
    assert seen == [True]


def test_other_threads_are_left_alone() -> None:
    codes = []
    thread = threading.Thread(target=lambda: codes.append(certify(["methods", "--json"])))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_ends_with_128_and_the_signal(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(_: object) -> int:
        os.kill(os.getpid(), number)
        wait_for_signals()
        raise AssertionError("the signal was lost")

    monkeypatch.setattr(methods, "methods", stopped)
    assert certify(["methods"]) == 128 + number
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("interrupted")
