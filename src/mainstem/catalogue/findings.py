"""What searches find, in order, remembered: to find and to order it takes a while, to turn a page of it does not."""

import asyncio
from collections import OrderedDict
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from mainstem.catalogue import lists
from mainstem.catalogue.model import PageRequest, Sort
from mainstem.catalogue.rows import read_ids
from mainstem.catalogue.tables import listing_epoch
from mainstem.storage import Records

_KEPT_IDS_MAX = 1_000_000
"""8 MB of them, all searches together."""
_KEPT_SEARCHES_MAX = 1_000
_KEPT_CHARACTERS_MAX = 1_000
"""Of one: who looks for more looks again."""
_SEARCHES_AT_ONCE = 2
"""One may take half a second. Others who read have their turn meanwhile."""

type _Ids = NDArray[np.int64]
type _Asked = tuple[PageRequest, lists.Halves]


class Findings:
    """The ids of all that fits a list, in order, kept as long as nothing changed that they depend on.

    A list without a search is kept, too: of all that the index of texts finds, it is the order.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._known: OrderedDict[_Asked, tuple[int, _Ids]] = OrderedDict()
        self._kept_ids = 0
        self._epoch = -1, 0
        """The version of the records at which it was read, and it."""
        self._searching = asyncio.Semaphore(_SEARCHES_AT_ONCE)

    async def of(self, request: PageRequest, within: lists.Halves) -> _Ids:
        """Everything on all pages of a list."""
        asked = (msgspec.structs.replace(request, page=1, per_page=1), within)
        known = self._recall(asked, await self._version(request))
        if known is not None:
            return known
        async with self._searching:
            version = await self._version(request)  # before the rows are read: it may be older than they, never newer
            async with self._records.read() as rows:
                return await self._remembered(rows, asked, version)

    async def _remembered(self, rows: AsyncConnection, asked: _Asked, version: int) -> _Ids:
        known = self._recall(asked, version)  # whoever asked the same has found it meanwhile
        if known is None:
            known = await self._find(rows, asked, version)
            self._keep(asked, version, known)
        return known

    async def _find(self, rows: AsyncConnection, asked: _Asked, version: int) -> _Ids:
        request, within = asked
        query = partial(lists.ids, request.filters, request.sort, within, descending=request.descending)
        search = request.filters.search
        if search is None or not lists.is_indexed(search):
            return await read_ids(rows, query())
        found = await read_ids(rows, lists.matches(search))
        if len(found) <= lists.NARROW_SEARCH_ROWS_MAX:
            return await read_ids(rows, query(among=found.tolist()))
        if not lists.is_wholly_indexed(search):
            return await read_ids(rows, query())
        everything = msgspec.structs.replace(request.filters, search=None)
        order = (msgspec.structs.replace(request, filters=everything), within)
        ordered = await self._remembered(rows, order, version)
        return ordered[np.isin(ordered, found, assume_unique=True)]

    async def _version(self, request: PageRequest) -> int:
        """Of what the request depends on."""
        version = await self._records.version()
        if _depends_on_checks(request):
            return version
        if self._epoch[0] != version:
            async with self._records.read() as rows:
                self._epoch = version, int(await rows.scalar(select(listing_epoch.c.epoch)) or 0)
        return self._epoch[1]

    def _recall(self, asked: _Asked, version: int) -> _Ids | None:
        known = self._known.get(asked)
        if known is None or known[0] != version:
            return None
        self._known.move_to_end(asked)
        return known[1]

    def _keep(self, asked: _Asked, version: int, found: _Ids) -> None:
        filters = asked[0].filters
        if len(filters.search or "") + len(filters.link or "") > _KEPT_CHARACTERS_MAX:
            return
        before = self._known.pop(asked, None)
        self._kept_ids += len(found) - (len(before[1]) if before else 0)
        self._known[asked] = version, found
        while self._kept_ids > _KEPT_IDS_MAX or len(self._known) > _KEPT_SEARCHES_MAX:
            _, (_, oldest) = self._known.popitem(last=False)
            self._kept_ids -= len(oldest)


def _depends_on_checks(request: PageRequest) -> bool:
    """Whether a check, which changes no more than the status and times, can change what is found or its order."""
    return request.filters.statuses is not None or request.sort in (Sort.UPDATED, Sort.CHECKED)
