"""Certificates add up, and their digest tells sets of offsets apart."""

from __future__ import annotations

import copy

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from domain.certificate import MASK64, Certificate, ClassCount, digest
from tests.spec import oracle

OFFSETS = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=30, unique=True).map(sorted)


def count(offsets: list[int]) -> ClassCount:
    return ClassCount.of(np.array(offsets, np.int64))


@given(OFFSETS)
def test_the_digest_is_the_sum_of_splitmix64(offsets: list[int]) -> None:
    assert digest(np.array(offsets, np.int64)) == sum(map(oracle.splitmix64, offsets)) & MASK64
    assert digest(np.array(offsets[::-1], np.int64)) == digest(np.array(offsets, np.int64))


def test_the_digest_of_a_long_range_wraps_around() -> None:
    assert digest(np.arange(5000)) == sum(map(oracle.splitmix64, range(5000))) & MASK64
    assert digest(np.arange(0)) == 0


@given(OFFSETS, st.data())
def test_counts_of_two_parts_add_up_to_the_count_of_the_whole(offsets: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(offsets)))
    total = ClassCount()
    for part in (offsets[:cut], offsets[cut:]):
        total.add(count(part) if part else ClassCount())
    assert total == count(offsets)
    assert 0 <= total.digest <= MASK64


def test_a_later_certificate_adds_counts_and_partial_but_leaves_what_was_done() -> None:
    one = Certificate(5, count([1, 5]), finals_done=True)
    one.add(Certificate(9, count([7]), count([8]), count([9]), partial=True))
    assert one == Certificate(9, count([1, 5, 7]), count([8]), count([9]), partial=True, finals_done=True)
    before = copy.deepcopy(one)
    one.add(Certificate())
    assert one == before


def test_blank_certificates_share_nothing() -> None:
    one, other = Certificate(), Certificate()
    one.late.add(count([3]))
    assert other == Certificate()
