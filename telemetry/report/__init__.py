"""The report: runs on one HTML page, to be mailed, printed and attached to a paper.

`report` puts the page together from `ReportRun`s; each section is a file, `html` and `chart` are what they draw with.
Nothing here reads a run directory but its metrics.csv (`curves`), and nothing imports torch or matplotlib.
"""
