"""The peer of the catalogue's benchmark: the list of streams as one writes it in an afternoon.

FastAPI, SQLAlchemy's ORM, pydantic and SQLite, tokens checked and their user looked up, an index on every column that
is filtered or sorted by. Run as `python plain_catalogue.py FILE PORT SECRET`.
"""

import sys
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

import jwt
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ForeignKey, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship

PER_PAGE_MAX = 100


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Stream(Base):
    __tablename__ = "streams"
    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(index=True)
    link: Mapped[str] = mapped_column(index=True)
    status: Mapped[str] = mapped_column(index=True)
    platform: Mapped[str | None] = mapped_column(index=True)
    orientation: Mapped[str | None]
    kind: Mapped[str]
    title: Mapped[str | None]
    notes: Mapped[str | None]
    city: Mapped[str | None]
    state: Mapped[str | None]
    posted_by: Mapped[str | None]
    is_pinned: Mapped[bool] = mapped_column(index=True)
    is_archived: Mapped[bool] = mapped_column(index=True)
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    last_checked_at: Mapped[datetime | None]
    last_live_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(index=True)
    updated_at: Mapped[datetime]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    user: Mapped[User] = relationship()


class UserOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    email: str
    role: str
    created_at: datetime
    updated_at: datetime


class StreamOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    source: str
    link: str
    status: str
    platform: str | None
    orientation: str | None
    kind: str
    title: str | None
    notes: str | None
    city: str | None
    state: str | None
    posted_by: str | None
    is_pinned: bool
    is_archived: bool
    started_at: datetime | None
    ended_at: datetime | None
    last_checked_at: datetime | None
    last_live_at: datetime | None
    created_at: datetime
    updated_at: datetime
    user: UserOut


class Meta(BaseModel):
    current_page: int
    total_pages: int
    total_count: int
    per_page: int


class StreamList(BaseModel):
    streams: list[StreamOut]
    meta: Meta


def service(path: str, secret: str) -> FastAPI:
    app = FastAPI()
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as opened:
            yield opened

    async def caller(rows: Annotated[AsyncSession, Depends(session)], authorization: Annotated[str, Header()]) -> User:
        try:
            claims = jwt.decode(authorization.removeprefix("Bearer "), secret, algorithms=["HS256"])
        except jwt.InvalidTokenError as error:
            raise HTTPException(401, "Unauthorized") from error
        user = await rows.get(User, int(claims["sub"]))
        if user is None:
            raise HTTPException(401, "Unauthorized")
        return user

    @app.get("/api/v1/streams")
    async def streams(
        rows: Annotated[AsyncSession, Depends(session)],
        user: Annotated[User, Depends(caller)],
        page: Annotated[int, Query(ge=1)] = 1,
        per_page: Annotated[int, Query(ge=1, le=PER_PAGE_MAX)] = 25,
        status: str | None = None,
        platform: str | None = None,
        search: str | None = None,
    ) -> StreamList:
        query = select(Stream)
        if user.role != "admin":
            query = query.where(Stream.is_archived.is_(False))
        if status is not None:
            query = query.where(Stream.status == status)
        if platform is not None:
            query = query.where(Stream.platform == platform)
        if search is not None:
            searched = (Stream.source, Stream.link, Stream.title, Stream.city, Stream.state, Stream.notes)
            matches = [column.ilike(f"%{search}%") for column in (*searched, Stream.posted_by)]
            query = query.where(or_(*matches))
        total = await rows.scalar(select(func.count()).select_from(query.subquery())) or 0
        ordered = query.order_by(Stream.is_pinned.desc(), Stream.created_at.desc(), Stream.id.desc())
        window = ordered.options(joinedload(Stream.user)).limit(per_page).offset((page - 1) * per_page)
        found = (await rows.scalars(window)).all()
        meta = Meta(current_page=page, total_pages=-(-total // per_page), total_count=total, per_page=per_page)
        return StreamList(streams=[StreamOut.model_validate(stream) for stream in found], meta=meta)

    return app


if __name__ == "__main__":
    file, port, secret = sys.argv[1:]
    uvicorn.run(
        service(file, secret), host="127.0.0.1", port=int(port), loop="uvloop", log_level="warning", access_log=False
    )
