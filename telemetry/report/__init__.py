"""The report: runs on one HTML page, for mail, print and supplements of papers.

`report` puts the page together from `ReportRun`s; each section is a file that uses `html` and `chart`.
Nothing here reads a run directory but its metrics.csv (`curves`), and nothing imports torch or matplotlib.
"""
