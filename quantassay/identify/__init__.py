"""Which dialect is my kernel? `identify` runs a kernel once per input and ranks all dialects.

- probes.py: the inputs, hostile, random and built to tell dialects apart; what every dialect gives
- ranking.py: a kernel's results on them, and how many differ from each dialect's
- hybrids.py: a dialect with one word changed (or two) that fits where none does
- shrinking.py, examples.py: the smallest input that tells two dialects apart
- finding.py: the verdict in a sentence; search.py: all of it in order; command.py: the verb
"""

from quantassay.identify.finding import Finding
from quantassay.identify.search import identify

__all__ = ["Finding", "identify"]
