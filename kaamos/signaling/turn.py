"""Short-lived TURN credentials, as coturn's ``use-auth-secret`` takes them.

draft-uberti-behave-turn-rest-00: whoever has the secret says who may use the TURN server and until when,
and the two servers need not talk.
"""

import base64
import hashlib
import hmac

from kaamos.config import Ice, IceServer, is_turn_url


def ice_servers(config: Ice, *, expires_at: int, name: str) -> tuple[IceServer, ...]:
    """Return what a client gets: TURN servers of ours with credentials until ``expires_at``.

    ``expires_at`` is in Unix seconds.  ``name`` tells clients apart in the TURN server's log.  STUN needs
    no credentials and gets none; what the configuration has a username for stays as it is.
    """
    found: list[IceServer] = []
    for server in config.servers:
        if server.username or not config.turn_secret:
            found.append(server)
            continue
        urls = (server.urls,) if isinstance(server.urls, str) else server.urls
        stun = tuple(url for url in urls if not is_turn_url(url))
        turn = tuple(url for url in urls if is_turn_url(url))
        if stun:
            found.append(IceServer(stun))
        if turn:
            username = f"{expires_at}:{name}"
            found.append(IceServer(turn, username, credential(config.turn_secret, username)))
    return tuple(found)


def credential(secret: str, username: str) -> str:
    """Return the password that goes with a username: base64 of HMAC-SHA1."""
    return base64.b64encode(hmac.digest(secret.encode(), username.encode(), hashlib.sha1)).decode()
