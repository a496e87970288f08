"""Which form of an answer a request gets."""

import pytest

from lightning_seg.serving.requests import wanted

OFFERED = ("image/png", "application/json", "image/jpeg")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "image/png"),
        ("", "image/png"),
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("application/json", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
        ("application/json, */*;q=0.1", "application/json"),
        ("image/png;q=0.2, image/jpeg;q=0.3", "image/jpeg"),
        ("image/png;q=0, image/*", "image/jpeg"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "image/png"),
        ("text/html", None),
        ("*/*;q=0", None),
        ("image/png;q=much", None),
        (";;,,", None),
    ],
)
def test_what_is_liked_best(accept: str | None, expected: str | None) -> None:
    assert wanted(accept, OFFERED) == expected
