# The image of the exactile plugin. Nothing is fetched at run time and nothing is written outside
# the output folder: it runs as any user, with a read-only root and without a network.
#
#   docker build -t exactile/exactile:$(cat VERSION) .
#
# PyTorch comes from the default index, whose Linux build serves CPU and NVIDIA GPUs. For a smaller
# CPU-only image give PyTorch's CPU index: --build-arg TORCH_INDEX=<its address>. OpenVINO, the
# fastest engine on a CPU, is in both.
FROM python:3.11-slim

ARG TORCH_INDEX=""
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    POLUS_LOG=INFO

WORKDIR /opt/exactile
COPY constraints.txt ./
RUN pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY VERSION LICENSE README.md pyproject.toml ./
COPY src src
RUN pip install --no-cache-dir -c constraints.txt '.[openvino]'

USER 1000:1000
WORKDIR /data
ENTRYPOINT ["exactile", "segment"]
