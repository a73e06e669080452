"""Compiled loops on plain arrays; they import numpy and numba only.

Arguments come first, arrays to fill after them. Nothing is checked here: NaN and bad
shapes are refused by the callers. Each public kernel has a twin of the same name in
``tests/naive*.py``.
"""
