"""The page of the front in a real browser, without a network."""

import re
import shutil
import subprocess

import pytest

from sweeps.pareto import front
from sweeps.report import page
from tests.sweeps.trials import certify, counted, study

OBJECTIVES = {"clean": "max", "pgd": "max"}
BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--virtual-time-budget=20000", "--dump-dom"]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_page_draws_its_plot_and_lists_the_front_without_a_network(tmp_path):
    records = counted(study(18))
    members = front(records, OBJECTIVES)
    for member in members:
        certify(member, member.metrics["pgd"] - 0.03)
    (tmp_path / "front.html").write_text(page(records, members, OBJECTIVES, "a <b>study</b>"))
    shown = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "front.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=240,
    ).stdout
    assert "main-svg" in shown, "plotly drew nothing"
    assert len(re.findall(r'<path class="point"', shown)) >= 2 * len(members), "searched and certified"
    assert shown.count('class="errorbar') >= len(members)
    assert "a <b>study</b>" not in shown
    for member in members:
        assert f"<td>{member.trial}</td>" in shown
