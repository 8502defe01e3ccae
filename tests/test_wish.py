"""Which of a visitor's runs is still wanted."""

from lab.progress import Tick
from lab.ui.wish import Wish, followed


def test_another_choice_ends_what_was_asked_of_the_last():
    wish = Wish()
    ticket = wish.next("patch")
    wish.turn("cat")
    assert [said for _, said in followed(iter(["news"]), wish, ticket)] == [
        '<p class="soft">Stopped; what was finished is kept.</p>'
    ]


def test_word_of_a_choice_that_comes_late_ends_nothing():
    wish = Wish()
    wish.next("patch")
    ticket = wish.next("cat")
    wish.turn("cat")
    news = list(followed(iter([Tick(1, 2, text="drawing"), "news"]), wish, ticket))
    assert [each for each, _ in news] == [None, "news", None] and "Done." in news[-1][1]


def test_stop_ends_whatever_was_asked():
    wish = Wish()
    ticket = wish.next("patch")
    wish.stop()
    assert len(list(followed(iter(["news", "more"]), wish, ticket))) == 1
