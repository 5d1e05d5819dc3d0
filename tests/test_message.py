"""``bench.message``: a text that is a text, and remembers what it was made of."""

from __future__ import annotations

import json

from bench.message import Message, joined, say


def test_a_message_is_the_text_that_it_says() -> None:
    message = say("worst in {workload}, replicate {replicate}", workload="launch/empty", replicate=3)
    assert message == "worst in launch/empty, replicate 3"
    assert json.dumps(message) == '"worst in launch/empty, replicate 3"'
    assert (message.template, message.values["replicate"]) == ("worst in {workload}, replicate {replicate}", 3)


def test_others_words_are_no_template() -> None:
    assert say("replicate {replicate}: {why}", replicate=1, why="{0} {x.__class__}") == "replicate 1: {0} {x.__class__}"
    assert joined(": ", ["{x}", "", "y"]) == "{x}: y"


def test_nothing_joined_is_an_empty_message() -> None:
    assert joined("; ", ()) == "" and isinstance(joined("; ", ()), Message)
