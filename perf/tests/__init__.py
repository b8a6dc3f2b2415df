"""Tests of what the comparison makes of its figures: `python3 -m unittest discover -t perf -s
perf/tests`. None starts a broker."""
