"""What an index refuses, and why. Each message says which value it was; nothing has changed when one is raised.

IndexRefused (ValueError)   what was given would poison the index
├── WrongShape              what is no vector, a hash of another length, local features of another form
├── NotUnitVector           a vector that is not finite, or not of norm 1
├── WrongScale              a mean or a deviation by which no score can be normalised
└── DuplicateKey            a key that is there already
RevisionGap                 a change is missing before this one
SnapshotProblem             a snapshot cannot be believed or read
"""

from __future__ import annotations


class IndexRefused(ValueError):
    """What was given would poison the index; it is as it was."""


class WrongShape(IndexRefused):
    """A vector has another shape than the index, or a hash another length than its type."""


class NotUnitVector(IndexRefused):
    """A vector has a NaN or an infinity, or is not of norm 1: a NaN would rank first in every result."""


class WrongScale(IndexRefused):
    """A mean is not finite, or a deviation not finite and positive: every score would be one that matches, or none."""


class DuplicateKey(IndexRefused):
    """A key is in the index already, or twice among those to add."""


class RevisionGap(Exception):
    """A change came that does not follow the index's revision: what lies between is missing."""


class SnapshotProblem(Exception):
    """A snapshot cannot be used; the message says why."""
