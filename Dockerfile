# syntax=docker/dockerfile:1
# The worker: a locked environment and the packages, nothing resolved or built at run time.
FROM python:3.13-slim-bookworm AS build
RUN python -m venv /opt/recount
COPY requirements.lock /
RUN /opt/recount/bin/pip install --no-cache-dir --require-hashes -r /requirements.lock

FROM python:3.13-slim-bookworm
RUN groupadd --gid 10001 recount \
    && useradd --uid 10001 --gid recount --no-create-home --shell /usr/sbin/nologin recount \
    && install -d -o recount -g recount /var/lib/recount
COPY --from=build /opt/recount /opt/recount
COPY LICENSE /opt/recount/src/
COPY domain /opt/recount/src/domain
COPY tables /opt/recount/src/tables
COPY sinks /opt/recount/src/sinks
COPY agents /opt/recount/src/agents
COPY app /opt/recount/src/app
ENV PATH=/opt/recount/bin:$PATH PYTHONPATH=/opt/recount/src PYTHONUNBUFFERED=1
RUN python -m compileall -q /opt/recount/src && python -m app --help > /dev/null
USER recount
VOLUME /var/lib/recount
WORKDIR /etc/recount
EXPOSE 6066
# Checkpoint, hsync, leave the group, exit 0 within 10 s.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:6066/healthz', timeout=2)"]
ENTRYPOINT ["python", "-m", "app"]
CMD ["worker", "--config", "/etc/recount/recount.toml"]
