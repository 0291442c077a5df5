"""The front end's own tests, run by node."""

from __future__ import annotations

import re
import subprocess

from tests.frontend.conftest import FRONTEND, node, npm_packages


def test_modules_pass_their_tests_in_node() -> None:
    """Protocol, blocks and markdown keep their promises, on random streams too."""
    if not (FRONTEND / "node_modules/marked").is_dir():
        npm_packages(FRONTEND)
    tests = sorted(str(path) for path in (FRONTEND / "test").glob("*.test.js"))
    done = subprocess.run(
        [node(), "--test", "--test-reporter=tap", *tests],
        cwd=FRONTEND,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    failed = re.findall(r"^not ok .*", done.stdout, re.MULTILINE)
    assert not failed, done.stdout[-4000:]
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert int(re.search(r"^# pass (\d+)", done.stdout, re.MULTILINE)[1]) >= 35
