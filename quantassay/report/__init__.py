"""The main job, `quantassay report`: real layers, every kernel, one page.

command.py is the command; data.py collects what report.json holds: checks.py and pool.py (kernels
on real layers and hostile inputs), counters.py, quality.py, exhibit.py, roofline.py, audit.py;
html.py and charts.py make the page from it.
"""

from quantassay.report.command import report

__all__ = ["report"]
