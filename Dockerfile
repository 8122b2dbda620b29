# Image of the whole program with its weights: `docker build -t cellseg .`
#
# The default is ready for GPUs: pip's plain torch wheel for Linux is the CUDA build (several GB). For a
# slim image that runs on the CPU only, name PyTorch's index of CPU wheels:
#     docker build --build-arg TORCH_INDEX_URL=... -t cellseg:cpu .

# ---- builder: the virtual environment and the compiled code; nothing else of this stage is kept ----
FROM python:3.11-slim-bookworm AS builder

ARG TORCH_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# All versions are pinned, so nothing needs to be resolved: what requirements.txt names behind "Not in the
# container" stays out although packages ask for it (cellpose: SciPy, Numba and more beside its network). Only
# torch brings what its wheel asks for, since its CUDA build asks for the CUDA libraries.
COPY requirements.txt /build/
RUN set -eu; \
    python -m venv /opt/venv; \
    sed '/^# Not in the container/,$d' /build/requirements.txt > /build/packages.txt; \
    torch="$(grep -o '^torch==[^ ]*' /build/packages.txt)"; \
    if [ -n "$TORCH_INDEX_URL" ]; then \
        /opt/venv/bin/pip install --no-deps --index-url "$TORCH_INDEX_URL" "$torch"; \
    fi; \
    /opt/venv/bin/pip install --only-binary :all: --constraint /build/packages.txt "$torch"; \
    /opt/venv/bin/pip install --only-binary :all: --no-deps -r /build/packages.txt; \
    /opt/venv/bin/pip uninstall --yes setuptools pip

# What only compiling against these packages or testing them needs is dropped, the rest compiled to
# bytecode: the image is immutable, so Python need never look whether a source file is newer.
RUN set -eu; \
    site="$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"; \
    rm -rf "$site"/torch/include "$site"/torch/share "$site"/torch/test "$site"/torch/bin/protoc* \
        "$site"/torch/bin/*Test "$site"/torch/bin/*_test "$site"/torch/bin/test_* \
        "$site"/numpy/_core/include; \
    for unused in include cmake torch tools libs/cache.json 'libs/*gpu_plugin*' 'libs/*npu_plugin*' \
        'libs/*auto*' 'libs/*hetero*' 'libs/*_frontend*' 'libs/libopenvino_c.so*' \
        'libs/libtbbmalloc_proxy*' 'libs/tbb.pc'; do rm -rf "$site"/openvino/$unused; done; \
    find "$site" -name '*.a' -delete; \
    find "$site" -type d -name tests -prune -exec rm -rf {} +; \
    find "$site" -type d -name __pycache__ -prune -exec rm -rf {} +; \
    /opt/venv/bin/python -m compileall -q -j 0 -x py312_ --invalidation-mode unchecked-hash "$site"; \
    /opt/venv/bin/python -c "import cellpose.resnet_torch, cv2, imagecodecs, joblib, openvino, PIL.Image, \
safetensors.torch, tifffile, torch, tqdm, zarr"

COPY weights/ /build/weights/
COPY LICENSE arguments.py docker-entrypoint.sh manifest.py options.py pipeline.py /build/code/
COPY predict.py predict.sh progress.py side_by_side.py stopwatch.py /build/code/
COPY imaging/ /build/code/imaging/
COPY models/ /build/code/models/
COPY router/ /build/code/router/
COPY tiling/ /build/code/tiling/
COPY workers/ /build/code/workers/
# Any user id may run the image, whatever the file modes of the clone are.
RUN set -eu; \
    /opt/venv/bin/python -m compileall -q --invalidation-mode checked-hash \
        -s /build/code -p /workspace /build/code; \
    chmod -R a+rX /build; \
    chmod a+x /build/code/docker-entrypoint.sh

# ---- the image ----
FROM python:3.11-slim-bookworm

# The base image's own installer is not needed either. The official base image comes without bytecode of the
# standard library, which every container would compile anew. Only /in and /out are made: predict.py takes
# /workspace/inputs and /workspace/outputs instead where those exist, which is where they are mounted.
RUN python -m pip uninstall --quiet --yes --root-user-action ignore pip setuptools wheel; \
    python -m compileall -q -j 0 -x '/(test|tests|idlelib|tkinter|lib2to3|ensurepip|turtledemo|site-packages|dist-packages)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"; \
    mkdir -p /in /out

COPY --from=builder /opt/venv /opt/venv
WORKDIR /workspace
COPY --from=builder /build/weights/ /workspace/weights/
COPY --from=builder /build/code/ /workspace/

# USER and LOGNAME: libraries ask for a user name, and an arbitrary user id has none.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=cellseg \
    LOGNAME=cellseg \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="cellseg" \
      org.opencontainers.image.description="Cell instance segmentation of microscope images of any modality" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.licenses="BSD-3-Clause" \
      org.opencontainers.image.authors="the project's authors" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim-bookworm"

# Python turns SIGINT into a clean end (finished label images stay, no half-written one appears).
STOPSIGNAL SIGINT
ENTRYPOINT ["/workspace/docker-entrypoint.sh"]
