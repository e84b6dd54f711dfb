# syntax=docker/dockerfile:1
# Two images: `docker build --target cpu .` and `docker build --target cuda .`; docs/docker.md tells the rest.

# What every stage begins with: a Python, or NVIDIA's PyTorch image (nvcr.io/nvidia/pytorch:<release>-py3), which brings
# a torch of its own; with it TORCH has to be empty.
ARG BASE=python:3.11-slim

# Every locked file, checked by its hash; nothing else is installed but torch. pip here is the locked one too.
FROM ${BASE} AS wheels
# NVIDIA's images pin versions of their own for pip, which are not ours.
ENV PIP_CONSTRAINT="" PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements-build.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv --without-pip /opt/builder && \
    python3 -m pip --python /opt/builder/bin/python install \
      --require-hashes --only-binary :all: --requirement requirements-build.lock
COPY requirements.lock ./
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/builder/bin/pip wheel --require-hashes --no-build-isolation --wheel-dir /wheels --requirement requirements.lock

# Of these, what users need: the lock has the tools of developers too. The environment sees the packages of the base,
# where a torch may be, but takes the locked version of everything else.
FROM wheels AS environment
COPY constraints.txt pyproject.toml ./
COPY tools/requirements.py tools/
RUN python3 -m venv --without-pip --system-site-packages /opt/nano-llm && \
    python3 tools/requirements.py > requirements.txt && \
    /opt/builder/bin/pip --python /opt/nano-llm/bin/python install --no-index --find-links /wheels \
      --constraint constraints.txt --requirement requirements.txt

# TORCH is what pip is told to fetch, as in the Makefile. PyTorch's own index has the build without CUDA, whose hashes
# are not in the lock.
FROM environment AS cpu-environment
ARG TORCH="--no-deps --index-url https://download.pytorch.org/whl/cpu --constraint constraints.txt torch"
# hadolint ignore=SC2086
RUN --mount=type=cache,target=/root/.cache/pip \
    [ -z "${TORCH}" ] || { /opt/builder/bin/pip wheel --wheel-dir /torch ${TORCH} && \
    /opt/builder/bin/pip --python /opt/nano-llm/bin/python install \
      --no-index --find-links /torch --find-links /wheels --constraint constraints.txt torch; }

FROM environment AS cuda-environment
COPY requirements-torch.lock ./
ARG TORCH="--no-deps --require-hashes --requirement requirements-torch.lock"
# hadolint ignore=SC2086
RUN --mount=type=cache,target=/root/.cache/pip \
    [ -z "${TORCH}" ] || { /opt/builder/bin/pip wheel --wheel-dir /torch ${TORCH} && \
    /opt/builder/bin/pip --python /opt/nano-llm/bin/python install \
      --no-index --find-links /torch --find-links /wheels --constraint constraints.txt torch; }

FROM wheels AS project
COPY . .
RUN /opt/builder/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist .

# What both images have in common. Any user may write to the volumes, for bind mounts need the user of the host.
FROM ${BASE} AS runtime
RUN groupadd --gid 10001 nano-llm && \
    useradd --uid 10001 --gid nano-llm --home-dir /cache --no-create-home --shell /usr/sbin/nologin nano-llm && \
    install --directory --mode 1777 /cache /data /outputs
# A user without an entry in /etc/passwd has a name and a home all the same. What torch compiles is code, which a /tmp
# in memory may refuse to run.
ENV PIP_CONSTRAINT="" \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PATH=/opt/nano-llm/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    HOME=/cache \
    USER=nano-llm \
    XDG_CACHE_HOME=/cache \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    NANO_LLM_CACHE=/cache/nano_llm \
    NANO_LLM_OUTPUTS=/outputs
VOLUME ["/cache", "/data", "/outputs"]
WORKDIR /outputs
EXPOSE 18080
STOPSIGNAL SIGTERM
# Asked without urllib, which would go through a proxy that the environment names.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", "import http.client; asked = http.client.HTTPConnection('127.0.0.1', 18080, timeout=4); asked.request('GET', '/health'); raise SystemExit(asked.getresponse().status != 200)"]
ENTRYPOINT ["nano-llm"]
CMD ["serve", "latest", "--host", "0.0.0.0"]

# The project comes last, in a layer of its own: new code brings no new torch. If the torch of the base does not suit
# it, this fails and says so.
FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=cuda-environment /opt/nano-llm /opt/nano-llm
RUN --mount=type=bind,from=project,source=/dist,target=/dist \
    --mount=type=bind,from=project,source=/opt/builder,target=/opt/builder \
    /opt/builder/bin/pip --python /opt/nano-llm/bin/python install --no-cache-dir --no-index /dist/*.whl
USER 10001:10001

# The last target is what a plain `docker build .` makes.
FROM runtime AS cpu
COPY --from=cpu-environment /opt/nano-llm /opt/nano-llm
RUN --mount=type=bind,from=project,source=/dist,target=/dist \
    --mount=type=bind,from=project,source=/opt/builder,target=/opt/builder \
    /opt/builder/bin/pip --python /opt/nano-llm/bin/python install --no-cache-dir --no-index /dist/*.whl
USER 10001:10001
