"""Readers for the official data set layouts; each returns a `Dataset` of lazily decoded `Frame`s.

A new data set is one file with a `read` function and one line in `READERS`.
"""

from zoo.data.dataset import READERS, Dataset, Reader, open_dataset, parse_source

__all__ = ["READERS", "Dataset", "Reader", "open_dataset", "parse_source"]
