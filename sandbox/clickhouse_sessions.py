"""Connections for requests: a fresh one each, or the one that a session keeps.

As in ClickHouse's HTTP interface, a request's settings and database hold for that request alone,
also inside a session, while `SET`, `USE` and temporary tables stay with the session.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sandbox.clickhouse_access import User, split_analyst_settings
from sandbox.clickhouse_engine import ClickHouseError, Connection, Engine
from sandbox.clickhouse_statement import first_word, identifier

LONGEST_TIMEOUT = 3600
DEFAULT_TIMEOUT = 60


@dataclass
class _Session:
    expires: float
    timeout: float
    # An administrator's session keeps its connection. An analyst's keeps what it may change, SET
    # and USE statements, and has them run again on a fresh connection: `readonly` cannot be undone.
    connection: Connection | None = None
    statements: list[bytes] = field(default_factory=list)
    database: str = "default"
    busy: bool = False
    # What the session has set, to go back to after a request's own settings; None: ask the engine.
    settings: Mapping[str, str] | None = field(default_factory=dict)


@dataclass
class Lease:
    """A connection lent to one request; give it back with `Sessions.give_back`."""

    connection: Connection
    user: User
    key: tuple[str, str] | None = None
    session: _Session | None = None
    # What to undo before a session's connection goes to its next request.
    changed_settings: dict[str, str | None] = field(default_factory=dict)
    changed_database: bool = False
    parameters: tuple[str, ...] = ()
    tables: list[str] = field(default_factory=list)
    # Whether the session ends with this request.
    ends_session: bool = False

    @property
    def keeps_connection(self) -> bool:
        """Tell whether the connection outlives the request."""
        return self.session is not None and self.session.connection is self.connection


class Sessions:
    """Lends connections. Safe from any thread; every method may block on the engine."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[tuple[str, str], _Session] = {}

    def lend(
        self,
        user: User,
        session_id: str = "",
        timeout: float = DEFAULT_TIMEOUT,
        must_exist: bool = False,
    ) -> Lease:
        """Lend the session's connection, or a fresh one where `session_id` is empty.

        An unknown session raises error 372 if it must exist, one in use by another request 373.
        """
        self.expire()
        if not session_id:
            return Lease(self._connect(user), user)
        key = (user.name, session_id)
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                if must_exist:
                    raise ClickHouseError(
                        372, "SESSION_NOT_FOUND", f"Session {session_id} not found"
                    )
                session = _Session(self._clock() + timeout, timeout)
                self._sessions[key] = session
            if session.busy:
                raise ClickHouseError(
                    373,
                    "SESSION_IS_LOCKED",
                    f"Session {session_id} is locked by a concurrent client",
                )
            session.busy = True
            session.timeout = timeout
        try:
            if user.is_analyst:
                connection = self._connect(user)
                for statement in session.statements:
                    connection.query(statement)
            else:
                connection = session.connection = session.connection or self._connect(user)
        except ClickHouseError:
            session.busy = False
            raise
        return Lease(connection, user, key, session)

    def _connect(self, user: User) -> Connection:
        connection = self._engine.connect()
        if user.is_analyst:
            connection.give_up_administration()
        return connection

    def prepare(
        self,
        lease: Lease,
        settings: Mapping[str, str],
        parameters: Mapping[str, str],
        database: str,
        freeze: bool = False,
    ) -> None:
        """Put a request's settings, query parameters and database on the lent connection.

        With `freeze` an analyst's statement can change no setting.
        """
        connection = lease.connection
        lease.parameters = tuple(parameters)
        connection.set({f"param_{name}": value for name, value in parameters.items()})
        if database:
            lease.changed_database = True
            connection.use(database)
        if lease.user.is_analyst:
            allowed, others = split_analyst_settings(settings)
            connection.set({**allowed, "readonly": "1" if freeze or others else "2"})
            connection.set(others)  # the engine refuses what differs from the present value
        elif lease.keeps_connection:
            present = self._present_values(lease, settings)
            connection.set(settings)  # all or, where it raises, none
            lease.changed_settings = present
        else:
            connection.set(settings)

    def _present_values(self, lease: Lease, settings: Mapping[str, str]) -> dict[str, str | None]:
        session = lease.session
        if session is None:
            own: Mapping[str, str] = {}
        elif session.settings is None:
            own = session.settings = lease.connection.changed_settings()
        else:
            own = session.settings
        return {name: own.get(name, self._engine.profile.get(name)) for name in settings}

    def after_session_statement(self, lease: Lease, statement: bytes) -> None:
        """Note that a statement may have changed what the session keeps (SET, USE)."""
        session = lease.session
        if session is None:
            return
        if lease.user.is_analyst:
            session.statements.append(statement)
            return
        session.settings = None
        if first_word(statement) == b"USE":
            session.database = lease.connection.scalar(b"SELECT currentDatabase()")

    def give_back(self, lease: Lease) -> None:
        """Take a lent connection back: close it, or make its session ready for the next request."""
        session = lease.session
        if not lease.keeps_connection:
            lease.connection.close()
        if session is None or lease.key is None:
            return
        if lease.ends_session:
            self._forget(lease.key, session)
            return
        try:
            if lease.keeps_connection:
                lease.connection.set(lease.changed_settings)
                if lease.changed_database:
                    lease.connection.use(session.database)
                if lease.parameters:
                    lease.connection.forget_parameters(lease.parameters)
                for table in lease.tables:
                    lease.connection.query(b"DROP TEMPORARY TABLE IF EXISTS " + identifier(table))
        except ClickHouseError:
            # Nobody else gets a connection in an unknown state, and the session is gone.
            self._forget(lease.key, session)
            return
        with self._lock:
            session.busy = False
            session.expires = self._clock() + session.timeout

    def _forget(self, key: tuple[str, str], session: _Session) -> None:
        with self._lock:
            self._sessions.pop(key, None)
        _close([session])

    def expire(self) -> None:
        """Close the sessions whose time is over."""
        now = self._clock()
        with self._lock:
            over = [
                key
                for key, session in self._sessions.items()
                if not session.busy and session.expires <= now
            ]
            sessions = [self._sessions.pop(key) for key in over]
        _close(sessions)

    def close(self) -> None:
        """Close every session."""
        with self._lock:
            sessions = list(self._sessions.values())
            self._sessions.clear()
        _close(sessions)


def _close(sessions: list[_Session]) -> None:
    for session in sessions:
        if session.connection is not None:
            session.connection.close()
