"""The column types that the tables share, each said once."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import BigInteger, ForeignKey, Identity, MetaData, Text, false, func, text
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, mapped_column

BigId = Annotated[int, mapped_column(BigInteger, Identity(), primary_key=True)]
Moment = Annotated[datetime, mapped_column(TIMESTAMP(timezone=True))]
Created = Annotated[datetime, mapped_column(TIMESTAMP(timezone=True), server_default=func.now())]
Counter = Annotated[int, mapped_column(default=0, server_default=text("0"))]
Flag = Annotated[bool, mapped_column(default=False, server_default=false())]
Json = Annotated[dict[str, Any], mapped_column(JSONB)]
BatchKey = Annotated[int, mapped_column(ForeignKey("cj_batch_uploads.id", ondelete="CASCADE"))]


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {str: Text, datetime: TIMESTAMP(timezone=True), int: BigInteger}  # noqa: RUF012 - SQLAlchemy reads a plain dict.
