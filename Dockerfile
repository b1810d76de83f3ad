# xraylab for processors and NVIDIA GPUs: docs/install.md. The default wheels of torch run on both; with the address of
# PyTorch's wheels without CUDA as TORCH_INDEX, the image is for processors alone, and several GB smaller.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory '*' \
    && useradd --create-home --uid 1000 xraylab \
    && chmod 1777 /home/xraylab \
    && install --directory --owner=xraylab --group=xraylab /study

WORKDIR /opt/xraylab
COPY constraints.txt ./
ARG TORCH_INDEX=""
RUN if [ -n "$TORCH_INDEX" ]; then \
        pip install --no-cache-dir --constraint constraints.txt --index-url "$TORCH_INDEX" torch torchvision; \
    fi

COPY pyproject.toml README.md LICENSE params.yaml dvc.yaml .gitignore .dvcignore ./
COPY .dvc/config .dvc/.gitignore .dvc/
COPY .dvc/plots .dvc/plots
COPY src src
ARG EXTRAS=serve,onnx,parquet,dicom,search,notebooks
RUN pip install --no-cache-dir --constraint constraints.txt ".[${EXTRAS}]"

# a study belongs to who runs the container, also with --user
ENV HOME=/home/xraylab
USER xraylab
WORKDIR /study
HEALTHCHECK NONE
CMD ["xraylab", "--help"]
