# This program in one image, for the CPU or for CUDA.
#   docker build -f containers/oamarl.Dockerfile -t oamarl .
#   docker build -f containers/oamarl.Dockerfile --build-arg TORCH_INDEX=https://pypi.org/simple -t oamarl:cuda .
#   docker run --rm --init -v "$PWD/results:/runs/results" oamarl --config=oappo --env-config=maze with seed=1
#   docker run --rm --init --gpus all -v "$PWD/results:/runs/results" oamarl:cuda --config=mappo --env-config=maze \
#       with use_cuda=True
# --build-arg EXTRAS='[smax,mamujoco]' adds environments.
FROM python:3.12-slim-bookworm

# gcc compiles the networks' kernels for the machine that the image runs on, at the first start
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
ENV PYTHONUNBUFFERED=1

# torch first: without CUDA it is a tenth of the size; the wheels of pypi.org bring CUDA
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" torch

ARG EXTRAS=
WORKDIR /opt/oamarl
COPY setup.py pyproject.toml README.md LICENSE ./
COPY src ./src
COPY docs ./docs
COPY zoo ./zoo
RUN pip install --no-cache-dir ".$EXTRAS"

WORKDIR /runs
ENTRYPOINT ["oamarl"]
CMD ["--help"]
