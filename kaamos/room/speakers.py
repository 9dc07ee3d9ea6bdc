"""Who speaks in a room, by the audio levels of its publications (RFC 6464).

Levels come in as they are polled, a few times a second; update() then tells whether anything changed.
A voice begins after two loud polls in a row, so that a click is none, and ends after a pause, so that
a breath does not end it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

# In dB below full scale, 0 the loudest.  Speech at a headset peaks at 15 to 35, at the far end of a
# table around 45; a quiet room is at 55 to 75, and browsers send 127 for a muted microphone.
LOUD_DB = 45
GOES_ON_DB = 55  # who speaks may trail off this far
LOUD_POLLS = 2
HOLD_S = 1.0

STEP_DB = 6  # a smaller change of a level is not worth a message
MAX_SPEAKERS = 10

_SMOOTHING = 0.5  # weight of the newest poll


@dataclass(slots=True)
class _Voice:
    """Somebody who speaks or may be about to."""

    level_db: float  # smoothed
    loud_polls: int = 0  # in a row
    began_at: float = math.inf
    spoke_at: float = -math.inf

    @property
    def speaks(self) -> bool:
        return self.began_at < math.inf


class Speakers:
    """The voices of one room, by user id.  ``now`` is monotonic seconds.

    Attributes:
        current: who speaks, the loudest first, each with a level from 0 to 1: linear, 1 for full scale,
            in steps of 6 dB; as ``audioLevel`` of the W3C statistics.
    """

    def __init__(self) -> None:
        self.current: tuple[tuple[str, float], ...] = ()
        self._heard: dict[str, int] = {}  # since the last update, in dB below full scale
        self._voices: dict[str, _Voice] = {}
        self._spoke: dict[str, float] = {}  # when somebody last spoke, the latest last
        # Worked out once between two updates, for all whose slots depend on them.
        self._standings: dict[str, tuple[float, float]] = {}

    @property
    def is_quiet(self) -> bool:
        """Return whether an update would change nothing as long as nobody is heard."""
        return not self._voices and not self._heard and not self.current

    def hear(self, user_id: str, level: int) -> None:
        """Take the level of a track, 0 (loudest) to 127; of a person's tracks the loudest counts."""
        if level <= GOES_ON_DB:
            self._heard[user_id] = min(level, self._heard.get(user_id, level))

    def silence(self, user_id: str) -> None:
        """Somebody's track was muted: what was heard of it counts no more, from the next update on."""
        self._heard.pop(user_id, None)
        self._voices.pop(user_id, None)
        self._standings.pop(user_id, None)

    def forget(self, user_id: str) -> None:
        """Somebody has left."""
        self.silence(user_id)
        self._spoke.pop(user_id, None)

    def update(self, now: float) -> bool:
        """Take in what was heard since the last update; return whether ``current`` has changed."""
        self._standings.clear()
        for user_id, level in self._heard.items():
            voice = self._voices.get(user_id)
            if voice is None and level <= LOUD_DB:
                voice = self._voices[user_id] = _Voice(level)
            if voice is not None:
                self._follow(user_id, voice, level, now)
        for user_id in [*self._voices.keys() - self._heard.keys()]:
            voice = self._voices[user_id]
            voice.loud_polls = 0
            voice.level_db += _SMOOTHING * (GOES_ON_DB - voice.level_db)
        self._heard.clear()
        ended = [
            user_id
            for user_id, voice in self._voices.items()
            if (now - voice.spoke_at > HOLD_S if voice.speaks else not voice.loud_polls)
        ]
        for user_id in ended:
            del self._voices[user_id]
        before, self.current = self.current, self._ranking()
        return self.current != before

    def standing(self, user_id: str) -> tuple[float, float]:
        """Return when somebody last spoke (-inf if never) and how loud they are now, 0 to 1 (0 if not)."""
        known = self._standings.get(user_id)
        if known is None:
            voice = self._voices.get(user_id)
            loudness = 10 ** (-voice.level_db / 20) if voice is not None and voice.speaks else 0.0
            known = self._standings[user_id] = self._spoke.get(user_id, -math.inf), loudness
        return known

    def recent(self) -> Iterator[str]:
        """Yield those who spoke since they came, the latest first."""
        return reversed(self._spoke)

    def _follow(self, user_id: str, voice: _Voice, level: int, now: float) -> None:
        voice.level_db += _SMOOTHING * (level - voice.level_db)
        voice.loud_polls = voice.loud_polls + 1 if level <= LOUD_DB else 0
        if voice.loud_polls >= LOUD_POLLS and not voice.speaks:
            voice.began_at = now
        if voice.speaks:
            voice.spoke_at = now
            self._spoke.pop(user_id, None)
            self._spoke[user_id] = now

    def _ranking(self) -> tuple[tuple[str, float], ...]:
        speaking = [(user_id, voice) for user_id, voice in self._voices.items() if voice.speaks]
        # Between equals whoever speaks longer stays in front.
        speaking.sort(key=lambda item: (-_amplitude(item[1].level_db), item[1].began_at))
        return tuple((user_id, _amplitude(voice.level_db)) for user_id, voice in speaking[:MAX_SPEAKERS])


def _amplitude(level_db: float) -> float:
    """Return a level from 0 to 1, in steps."""
    stepped: float = 10 ** (-round(level_db / STEP_DB) * STEP_DB / 20)
    return round(stepped, 3)
