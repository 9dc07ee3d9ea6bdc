"""A session's messages are numbered without gaps, also when some of them have to be said again."""

import json

from kaamos.signaling.mailbox import MAX_KEPT, MAX_KEPT_CHARS, Mailbox


def say(mailbox: Mailbox, text: str, *, is_kept: bool = True) -> int:
    frame = json.loads(mailbox.number(json.dumps({"type": text}), is_kept=is_kept))
    assert list(frame) == ["seq", "type"]
    return int(frame["seq"])


def missed(mailbox: Mailbox, last_seq: int) -> list[str] | None:
    texts = mailbox.rewind(last_seq)
    return None if texts is None else [json.loads(text)["type"] for text in texts]


def test_numbers_rise_by_one_from_one_on() -> None:
    mailbox = Mailbox()
    assert [say(mailbox, "x") for _ in range(3)] == [1, 2, 3]


def test_what_was_missed_comes_again_in_order_and_the_numbers_go_on_from_the_last_one_heard() -> None:
    mailbox = Mailbox()
    for text in ("a", "b", "c", "d"):
        say(mailbox, text, is_kept=text != "c")
    assert missed(mailbox, 1) == ["b", "d"]
    assert mailbox.last_seq == 1
    assert say(mailbox, "b") == 2
    assert missed(mailbox, 0) == ["a", "b"], "who has heard even less can still come back"


def test_nothing_missed_is_nothing_to_say() -> None:
    mailbox = Mailbox()
    say(mailbox, "a")
    assert missed(mailbox, 1) == []


def test_a_number_that_was_never_used_is_refused() -> None:
    mailbox = Mailbox()
    say(mailbox, "a")
    assert missed(mailbox, 2) is None
    assert missed(mailbox, 0) == ["a"], "and nothing was lost by it"


def test_so_many_messages_can_be_missed_and_no_more() -> None:
    mailbox = Mailbox()
    for n in range(MAX_KEPT + 1):
        say(mailbox, str(n))
        say(mailbox, "offer", is_kept=False)
    assert missed(mailbox, 0) is None
    assert missed(mailbox, 1) == [str(n) for n in range(1, MAX_KEPT + 1)]


def test_so_much_text_can_be_missed_and_no_more() -> None:
    mailbox = Mailbox()
    say(mailbox, "x" * (MAX_KEPT_CHARS // 2))
    say(mailbox, "y" * (MAX_KEPT_CHARS // 2))
    assert missed(mailbox, 0) is None
    say(mailbox, "z" * MAX_KEPT_CHARS)
    assert missed(mailbox, 2) is None
    assert missed(mailbox, 3) == []
