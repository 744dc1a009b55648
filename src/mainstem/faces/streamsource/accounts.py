"""Signing up, in and out, and what administrators do with accounts."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Annotated

import msgspec
from msgspec import Meta

from mainstem.catalogue import require_administrator
from mainstem.errors import Unauthenticated
from mainstem.faces.streamsource import wire
from mainstem.faces.streamsource.context import Context
from mainstem.faces.streamsource.parameters import FORM, Parameters, body_of, parameters_of, query_of, record_id
from mainstem.http import JSON, Answer, Call, Reply, Route, json_answer
from mainstem.identity import KEY_PREFIX, Account, Role, SignInRefused, SignUp
from mainstem.ids import AccountId

DURING_MAINTENANCE = frozenset({"streamsource_sign_in", "streamsource_sign_in_short"})

_TAG = "Accounts"
_NOT_KEPT = [("cache-control", "no-store")]


class SignUpIn(msgspec.Struct, kw_only=True):
    """May also be under the key `user`."""

    email: str
    password: Annotated[
        str,
        Meta(description="8 to 128 characters, among them a lower-case and an upper-case letter and a digit"),
    ]
    password_confirmation: Annotated[str, Meta(description="The password again; checked where it is given")] = ""
    role: Annotated[str, Meta(description="Ignored, unless the operator lets strangers choose")] = ""


class SignInIn(msgspec.Struct, kw_only=True):
    """May also be under the key `user`."""

    email: str
    password: str


class SignedUp(msgspec.Struct, kw_only=True):
    user: wire.UserOut
    token: str


class SignInStatus(msgspec.Struct):
    code: int = 200
    message: str = "Logged in successfully."


class SignedIn(msgspec.Struct, kw_only=True):
    status: SignInStatus
    user: wire.UserOut
    token: str


class SignedOut(msgspec.Struct):
    status: int = 200
    message: str = "Logged out successfully."


class UserIn(msgspec.Struct, kw_only=True):
    """May also be under the key `user`."""

    role: Role


class UserList(msgspec.Struct):
    users: list[wire.UserOut]
    meta: wire.PageMeta


class UsersQuery(wire.PageQuery):
    search: Annotated[str, Meta(description="A part of the name or email, in any case")] = ""


class _Accounts:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def sign_up(self, call: Call) -> Answer:
        self._context.throttle.sign_up(call)
        given = await _credentials(call)
        account = await self._context.accounts.sign_up(
            SignUp(
                email=given.text("email"),
                password=given.text("password"),
                password_confirmation=given.text("password_confirmation"),
                role=given.filled("role"),
            )
        )
        token = self._context.accounts.issue(account).access_token
        return json_answer(SignedUp(user=wire.user_out(account), token=token), 201, _NOT_KEPT)

    async def sign_in(self, call: Call) -> Answer:
        """In maintenance, too, for whoever can end it."""
        self._context.throttle.sign_in(call)
        given = await _credentials(call)
        email, password = given.text("email") or "", given.text("password") or ""
        self._context.throttle.sign_in_of(call, email)
        account = await self._account(email, password)
        token = self._context.accounts.issue(account).access_token
        answer = SignedIn(status=SignInStatus(), user=wire.user_out(account), token=token)
        return json_answer(answer, headers=_NOT_KEPT)

    async def _account(self, email: str, password: str) -> Account:
        try:
            account = await self._context.accounts.sign_in(email, password)
        except SignInRefused:
            await self._context.require_open()
            raise
        if account.role is not Role.ADMIN:
            await self._context.require_open()
        return account

    async def sign_out(self, call: Call) -> Answer:
        """Whoever has no token, or one that has ended already, is as good as signed out. A key of ours is not ended by
        this: it belongs to a program."""
        with suppress(Unauthenticated):
            token = self._context.token_of(call)
            if not token.startswith(KEY_PREFIX):
                await self._context.accounts.sign_out(token)
        return json_answer(SignedOut())

    async def list(self, call: Call) -> Answer:
        query = query_of(call)
        page, per_page = query.page, query.per_page()
        found = await self._context.accounts.page(call.caller, page=page, per_page=per_page, search=query.search or "")
        meta = wire.page_meta(page, per_page, found.total)
        answer = UserList([wire.user_out(account) for account in found.accounts], meta)
        return json_answer(answer, headers=wire.page_headers(call, meta))

    async def get(self, call: Call) -> Answer:
        account = await self._context.accounts.get(call.caller, AccountId(record_id(call)))
        return wire.enveloped("user", wire.user_out(account))

    async def update(self, call: Call) -> Answer:
        require_administrator(call.caller)  # before anything tells which accounts there are
        number = AccountId(record_id(call))
        given = await parameters_of(call, "user")
        if "role" in given:
            account = await self._context.accounts.set_role(call.caller, number, given.text("role") or "")
        else:
            account = await self._context.accounts.get(call.caller, number)
        return wire.enveloped("user", wire.user_out(account))

    async def delete(self, call: Call) -> Answer:
        require_administrator(call.caller)
        await self._context.accounts.delete(call.caller, AccountId(record_id(call)))
        return Answer(204)


async def _credentials(call: Call) -> Parameters:
    """What the body gives, flat or under `user`. The query string does not count: addresses end up in logs."""
    body = await body_of(call)
    if not isinstance(body, dict):
        return Parameters({})
    inner = body.get("user")
    return Parameters({**body, **inner} if isinstance(inner, dict) else body)


def routes(context: Context) -> list[Route]:
    accounts = _Accounts(context)
    return [
        *_twice(
            "POST",
            ("/api/v1/users/signup", "/api/v1/signup"),
            "sign_up",
            "Make an account for yourself",
            accounts.sign_up,
            {201: Reply("The account, and a token for it", [SignedUp])},
            body=SignUpIn,
        ),
        *_twice(
            "POST",
            ("/api/v1/users/login", "/api/v1/login"),
            "sign_in",
            "Exchange email and password for a token",
            accounts.sign_in,
            {200: Reply("The account, and a token that is good for 24 hours, a program's for 30 days", [SignedIn])},
            body=SignInIn,
        ),
        *_twice(
            "DELETE",
            ("/api/v1/logout", "/api/v1/users/logout"),
            "sign_out",
            "End the token that the request carries",
            accounts.sign_out,
            {200: Reply("It is good no more", [SignedOut])},
        ),
        Route(
            method="GET",
            path="/api/v1/users",
            name="streamsource_users",
            summary="List accounts, by number",
            description="For administrators.",
            tag=_TAG,
            query=UsersQuery,
            replies={200: Reply("A page of accounts", [UserList])},
            handler=accounts.list,
        ),
        Route(
            method="GET",
            path="/api/v1/users/{id}",
            name="streamsource_user",
            summary="See an account",
            description="Your own, or any for administrators.",
            tag=_TAG,
            errors=("NOT_FOUND",),
            replies={200: Reply("The account", [wire.UserOut])},
            handler=accounts.get,
        ),
        *wire.patch_and_put(
            Route(
                method="PATCH",
                path="/api/v1/users/{id}",
                name="streamsource_user_update",
                summary="Give an account a role",
                description="For administrators. It counts from the next request on.",
                tag=_TAG,
                bodies={JSON: UserIn, FORM: UserIn},
                body_bytes_max=wire.BODY_BYTES_MAX,
                errors=("NOT_FOUND", "CONFLICT"),
                replies={200: Reply("The account", [wire.UserOut])},
                handler=accounts.update,
            )
        ),
        Route(
            method="DELETE",
            path="/api/v1/users/{id}",
            name="streamsource_user_delete",
            summary="Delete an account",
            description="For administrators, who take over what it owns. Nobody deletes himself.",
            tag=_TAG,
            errors=("NOT_FOUND", "CONFLICT"),
            replies={204: Reply("It is gone, and its tokens with it")},
            handler=accounts.delete,
        ),
    ]


def _twice(
    method: str,
    paths: Sequence[str],
    name: str,
    summary: str,
    handler: Callable[[Call], Awaitable[Answer]],
    replies: dict[int, Reply],
    body: type[msgspec.Struct] | None = None,
) -> list[Route]:
    """The route under the paths of both generations of clients."""
    return [
        Route(
            method=method,
            path=path,
            name=f"streamsource_{name}{'' if path == paths[0] else '_short'}",
            summary=summary,
            tag=_TAG,
            public=True,
            bodies={} if body is None else {JSON: body, FORM: body},
            body_bytes_max=wire.BODY_BYTES_MAX,
            errors=("UNAUTHENTICATED", "PERMISSION_DENIED", "RATE_LIMITED") if method == "POST" else (),
            replies=replies,
            handler=handler,
        )
        for path in paths
    ]
