"""The check for processes that tests leave behind can find one."""

from __future__ import annotations

import os
import subprocess
import sys

from conftest import MARK, orphans


def test_a_process_that_was_left_behind_is_found_and_one_that_ended_is_not():
    words = [sys.executable, "-c", "input()"]
    mark = os.environ[MARK]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)
    try:
        assert any("input()" in line for line in orphans(mark))
        assert orphans("another mark") == []
    finally:
        child.communicate(b"\n")
    assert not any("input()" in line for line in orphans(mark))
