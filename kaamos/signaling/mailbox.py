"""What a session has told its client: every message numbered, one after another."""


class Mailbox:
    """Numbers the messages of one session, from 1 on."""

    def __init__(self) -> None:
        self.last_seq = 0

    def number(self, text: str) -> str:
        """Return a frame, as messages.encode() makes it, with the next ``seq`` in front."""
        self.last_seq += 1
        # Spliced in: a frame for a whole room is encoded once, whatever number it has for each.
        return f'{{"seq":{self.last_seq},{text[1:]}'
