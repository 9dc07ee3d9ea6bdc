"""What a session has told its client: every message numbered, the last ones kept to be said again."""

from collections import deque

# What a client may have missed at most and still come back; more than that is a join anew.
MAX_KEPT = 256
MAX_KEPT_CHARS = 256 << 10


class Mailbox:
    """Numbers the messages of one session, from 1 on."""

    def __init__(self) -> None:
        self.last_seq = 0
        self._kept: deque[tuple[int, str]] = deque()  # without their numbers
        self._kept_chars = 0
        self._dropped_seq = 0  # of the newest that is kept no longer, though it should be said again

    def number(self, text: str, *, is_kept: bool) -> str:
        """Return a frame, as frames.encode() makes it, with the next ``seq`` in front.

        ``is_kept``: it is worth to be said again to a client that missed it.
        """
        self.last_seq += 1
        if is_kept:
            self._keep(text)
        # Spliced in: a frame for a whole room is encoded once, whatever number it has for each.
        return f'{{"seq":{self.last_seq},{text[1:]}'

    def rewind(self, last_seq: int) -> list[str] | None:
        """Go back to the last number that the client has, and return what it missed, to be sent again.

        None, and no change, if more was missed than is kept, or that number was never used.
        """
        if not self._dropped_seq <= last_seq <= self.last_seq:
            return None
        missed: list[str] = []
        while self._kept and self._kept[-1][0] > last_seq:
            text = self._kept.pop()[1]
            self._kept_chars -= len(text)
            missed.append(text)
        self.last_seq = last_seq
        return missed[::-1]

    def _keep(self, text: str) -> None:
        self._kept.append((self.last_seq, text))
        self._kept_chars += len(text)
        while len(self._kept) > MAX_KEPT or self._kept_chars > MAX_KEPT_CHARS:
            self._dropped_seq, dropped = self._kept.popleft()
            self._kept_chars -= len(dropped)
