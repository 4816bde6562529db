"""Hashtags of many scripts: listed texts, and random texts against an independent reading."""

from __future__ import annotations

from typing import Literal
from unicodedata import category, normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.oracle import hashtags_of
from tidemark.hashtags import MAX_COUNT, MAX_LENGTH, at_most, canonical, hashtags

WHOLE = (
    *("one_2", "2026", "über", "ærø", "łódź", "tiếng_việt", "ελλάδα"),
    *("україна", "ծով", "საქართველო", "l·l"),
    *("हिन्दी", "मराठी", "தமிழ்", "తెలుగు", "ಕನ್ನಡ"),
    *("മലയാളം", "বাংলা", "ਪੰਜਾਬੀ", "ગુજરાતી"),
    *("ଓଡ଼ିଆ", "ශ්\u200dරී", "བོད"),
    *("สวัสดี", "ลาว", "ខ្មែរ", "မြန်မာ"),
    *("עִבְרִית", "العَرَبِيَّة", "کتاب\u200cها"),  # noqa: RUF001
    *("አማርኛ", "ߒߞߏ", "ދިވެހި", "ᠮᠣᠩᠭᠣᠯ"),
    *("日本語", "データベース", "葛\U000e0100城", "한국어"),
    *("中文_1", "ⅷ", "𐐨𐐩", "ꮳꮃꭹ", "ꦗꦮ"),
)
CASES = {
    "#One two #two #one a#b &#39; #drei_3 #über": ["one", "two", "drei_3", "über"],
    "no tags # here": [],
    "(#a) #b-c #d+e #f's ##g": ["a", "b", "d", "f", "g"],
    "#日本語、\uff03東京。 ﹟小": ["日本語", "東京", "小"],
    "#cafe\u0301 #café #CAFÉ #CAFE\u0301": ["café"],
    "#J\u030c": ["ǰ"],
    "हि#no e\u0301#no ह्#no": [],
    "#👍 #a👍b #\ufe0f\u20e3 #\u0301a #ⓐ": ["a"],
    "#\u200da #a\u200d #b\u200c\u200dc #d\u200c!": ["a", "b", "d"],
    "#x²": ["x"],
}
ALPHABETS = (
    (0x20, 0x7E),
    (0xC0, 0x24F),
    (0x300, 0x345),
    (0x5BE, 0x5F4),
    (0x620, 0x65F),
    (0x900, 0x97F),
    (0xB80, 0xBFF),
)
EAST = (
    (0xD81, 0xDF4),
    (0xE01, 0xE5B),
    (0x1780, 0x17DD),
    (0x200B, 0x200D),
    (0x3041, 0x3096),
    (0x4E00, 0x4E20),
)
OTHERS = ((0x1100, 0x1112), (0xAC00, 0xAC20), (0xFE0E, 0xFE0F), (0x1F44D, 0x1F44F), (0x1F3FB, 0x1F3FF))
character = st.sampled_from(
    [chr(code) for first, last in (*ALPHABETS, *EAST, *OTHERS) for code in range(first, last + 1)]
)
text = st.lists(st.one_of(character, st.sampled_from("##\uff03 &_")), max_size=40).map("".join)


@pytest.mark.parametrize("tag", WHOLE)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_tag_of_any_script_is_whole_in_both_forms(tag: str, form: Literal["NFC", "NFD"]) -> None:
    expected = normalize("NFC", tag)
    assert hashtags(f"x #{normalize(form, tag)}, y") == [expected] == hashtags_of(f"#{tag}")
    assert canonical(normalize(form, tag)) == expected


@pytest.mark.parametrize("body", CASES)
def test_a_tag_begins_and_ends_where_the_annex_says(body: str) -> None:
    assert hashtags(body) == CASES[body] == hashtags_of(body)


@given(text)
def test_random_texts_have_the_tags_that_categories_give(body: str) -> None:
    assert hashtags(body) == hashtags_of(body)
    assert len(hashtags(body)) <= at_most(body) <= MAX_COUNT


@given(text)
def test_every_tag_is_its_own_canonical_form(body: str) -> None:
    for tag in (*hashtags(body), canonical(body)):
        assert canonical(tag) == tag
    assert {canonical(tag) for tag in hashtags(body)} == set(hashtags(normalize("NFD", body)))


@pytest.mark.parametrize("letter", ["a", "हि", "e\u0301\u0323", "क्\u200dष"])
def test_a_long_tag_ends_between_two_characters(letter: str) -> None:
    [tag] = hashtags("#" + letter * 2 * MAX_LENGTH)
    rest = normalize("NFC", letter * 2 * MAX_LENGTH)[len(tag) :]
    assert MAX_LENGTH - 5 < len(tag) <= MAX_LENGTH and not category(rest[0]).startswith("M")
    assert hashtags("#a" + "\u0316" * MAX_LENGTH) == []


def test_of_many_hashtags_the_first_thirty_count() -> None:
    body = "".join(f"#{number % 40} " for number in range(500))
    assert hashtags(body) == hashtags_of(body) == [str(number) for number in range(MAX_COUNT)]
