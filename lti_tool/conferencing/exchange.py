"""How what is said in a room reaches everyone in it, whichever of our processes holds their socket."""

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from redis import Redis
from redis.exceptions import RedisError

log = logging.getLogger("doorlist")

Deliver = Callable[[str, dict[str, Any]], None]


class Exchange(Protocol):
    """Carries envelopes to every process that holds windows of a room, this one included."""

    def listen(self) -> None:
        """Envelopes arrive from now on; a second time changes nothing."""

    def publish(self, key: str, envelope: dict[str, Any]) -> None:
        """Hand `envelope` to everyone who listens for the room `key`."""


class OneProcess:
    """Everybody is here: hand over directly."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver

    def listen(self) -> None:
        """Nothing to do."""

    def publish(self, key: str, envelope: dict[str, Any]) -> None:
        """Deliver at once."""
        self._deliver(key, envelope)


class ManyProcesses:
    """A Redis channel for each room; every process hears them all and keeps what is for its windows."""

    PREFIX = "doorlist:room:"

    def __init__(self, url: str, deliver: Deliver, lost: Callable[[], None]) -> None:
        # The health check notices a dead connection that nobody writes on.
        self._redis = Redis.from_url(url, health_check_interval=10, socket_connect_timeout=5)
        self._deliver = deliver
        self._lost = lost
        self._starting = threading.Lock()
        self._listening = threading.Event()
        self._thread: threading.Thread | None = None

    def listen(self) -> None:
        """Subscribe once in this process; returns when what is published is heard."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._hear, name="room-exchange", daemon=True)
                self._thread.start()
        self._listening.wait(timeout=5)

    def publish(self, key: str, envelope: dict[str, Any]) -> None:
        """Publish to the room's channel; while Redis is away, whoever is here at least is told."""
        try:
            self._redis.publish(self.PREFIX + key, json.dumps(envelope))
        except RedisError:
            log.warning("room_exchange_away")
            self._deliver(key, envelope)

    def _hear(self) -> None:
        while True:
            try:
                # redis-py does not type this one.
                with self._redis.pubsub(ignore_subscribe_messages=True) as channel:  # type: ignore[no-untyped-call]
                    channel.psubscribe(self.PREFIX + "*")
                    # The answer to the subscription itself is ignored, and read here.
                    channel.get_message(timeout=5)
                    self._listening.set()
                    while True:
                        message = channel.get_message(timeout=5)
                        if message is not None:
                            key = message["channel"].decode().removeprefix(self.PREFIX)
                            self._deliver(key, json.loads(message["data"]))
            except RedisError:
                # What was said meanwhile is lost: windows reconnect and are told everything anew.
                self._listening.clear()
                log.warning("room_exchange_lost")
                self._lost()
                time.sleep(2)
