# A Cumulus network (the default), or one of its nodes:  docker run cumulus miner …  (compose.yaml)
FROM python:3.13-slim AS build
WORKDIR /app
COPY pyproject.toml README.md LICENSE requirements.lock requirements-build.lock ./
COPY scripts scripts
COPY chain chain
COPY miner miner
COPY cdn cdn
COPY gateway gateway
RUN python scripts/make_venv.py requirements.lock

FROM python:3.13-slim
RUN useradd --uid 10001 --create-home cumulus && mkdir -p /data/keys /genesis /disks/1 /disks/2 /disks/3 /disks/4 /disks/5 /disks/6 \
  && chmod 700 /data /data/keys && chown -R cumulus /data /genesis /disks
COPY --from=build /app /app
USER cumulus
ENV PATH=/app/.venv/bin:$PATH CUMULUS_DATA_DIR=/data CUMULUS_HOST=0.0.0.0 PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 9000 8080 5001 9001 4700 4701 4702 4703
HEALTHCHECK --interval=10s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9001/health/ready', timeout=3)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["cumulus"]
CMD ["up"]
