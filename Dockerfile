# One image for every process; docker-compose.yml chooses the command.

FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /venv
# The pins come first, so that a change of our own code installs nothing but our own code.
COPY requirements.txt ./
RUN /venv/bin/pip install -r requirements.txt
COPY pyproject.toml README.md ./
COPY cjtasks cjtasks
COPY consumers consumers
RUN /venv/bin/pip install --no-deps .

FROM python:3.12-slim
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --no-create-home --home-dir /app cjtasks
COPY --from=build /venv /venv
WORKDIR /app
# `alembic upgrade head` looks for its configuration where it is called.
COPY alembic.ini ./
COPY alembic alembic
USER cjtasks
CMD ["cjtasks", "--help"]
