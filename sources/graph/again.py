"""Whether a failed request is worth another attempt, and what must happen before it."""

from __future__ import annotations

from http import HTTPStatus

from backupd.limits import RetryBudget
from sources.graph.failures import Broken, Class, Refused
from sources.graph.tokens import Tokens


class Again:
    """Decides about another attempt, and renews the token where that is what was missing."""

    def __init__(self, budget: RetryBudget, tokens: Tokens, failure: Refused | Broken) -> None:
        self._budget = budget
        self._tokens = tokens
        self._failure: Refused | Broken | None = failure
        self._challenge: Refused | None = None
        self._renewed = False
        self._items = 0

    def worth_it(self, failure: Exception) -> bool | float:
        """What stamina asks: False, True for its own pause, or seconds."""
        if isinstance(failure, Broken):
            return self._budget.spend()
        if not isinstance(failure, Refused):
            return False
        if failure.refusal.status == HTTPStatus.UNAUTHORIZED and not self._renewed:
            self._renewed, self._challenge = True, failure
            return 0.0
        if failure.kind is Class.THROTTLED:
            return True if failure.refusal.pause is None else 0.0  # the lane's fence does the rest
        if (
            failure.kind is Class.ITEM
            and failure.refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        ):
            self._items += 1  # "corrupt" is believed the second time
            return self._items == 1 and self._budget.spend()
        return failure.kind is Class.TRANSIENT and self._budget.spend()

    async def prepare(self) -> None:
        """Before an attempt: hand stamina the first failure, and answer a 401."""
        if self._failure:
            failure, self._failure = self._failure, None
            raise failure
        if self._challenge:
            challenge, self._challenge = self._challenge, None
            stale = await self._tokens.bearer()
            await self._tokens.renew(stale, challenge.refusal.claims)
