# The image of the exactile plugin. Nothing is fetched at run time and nothing is written outside
# the output folder: it runs as any user, with a read-only root and without a network.
#
#   docker build -t exactile/exactile:$(cat VERSION) .
#
# That is the image for CPUs. For NVIDIA GPUs, with PyTorch's build from the default index:
#
#   docker build --build-arg TORCH_INDEX= -t exactile/exactile:$(cat VERSION)-cuda .
#
# Versions are those of constraints.txt. EXTRAS are the optional parts of pyproject.toml that go in:
# `openvino`, the fastest engine on a CPU, is a dependency where it has wheels; `openvino,onnx` adds
# models in ONNX.
FROM python:3.11-slim AS build

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=openvino

# The base's pip installs into an environment that has none of its own.
RUN python -m venv --without-pip /opt/exactile
ENV PIP_NO_CACHE_DIR=1 \
    PIP_PYTHON=/opt/exactile/bin/python

WORKDIR /src
COPY constraints.txt ./
# From PyTorch's index comes PyTorch alone; all that it needs comes with the rest.
RUN pip install --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c constraints.txt torch
COPY VERSION LICENSE README.md pyproject.toml ./
COPY src src
RUN pip install -c constraints.txt ".[$EXTRAS]"

# What no run uses: tests, PyTorch's C++ headers and compilers, OpenVINO's plugins for other devices
# than CPUs. Compiled Python stays in: it makes every start faster.
RUN cd /opt/exactile/lib/python3*/site-packages \
    && find . -type d -name tests -prune -exec rm -rf {} + \
    && rm -rf torch/test torch/include torch/bin/*Test torch/bin/test_* torch/bin/protoc* torch/share \
    && rm -f openvino/libs/libopenvino_intel_[gn]pu_*.so openvino/libs/cache.json


FROM python:3.11-slim

COPY --from=build /opt/exactile /opt/exactile
# Any user id may come, without a home: nothing is kept beside the program.
ENV PATH=/opt/exactile/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    POLUS_LOG=INFO

USER 1000:1000
WORKDIR /data
ENTRYPOINT ["exactile", "segment"]
