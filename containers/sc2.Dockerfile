# StarCraft II, SMAC and this program in one image. To build it is to accept Blizzard's AI and Machine Learning licence:
# http://blzdistsc2-a.akamaihd.net/AI_AND_MACHINE_LEARNING_LICENSE.html
#   docker build -f containers/sc2.Dockerfile --build-arg ACCEPT_LICENCE=yes -t oamarl-sc2 .
#   docker run --rm --init -v "$PWD/results:/results" oamarl-sc2 --config=oappo --env-config=sc2 \
#       with env_args.map_name=3s5z_vs_3s6z local_results_path=/results
# The image holds the game: the licence does not let you pass it on, so keep it out of public registries.
FROM python:3.12-slim-bookworm

RUN apt-get update && apt-get install -y --no-install-recommends git unzip && rm -rf /var/lib/apt/lists/*
ENV SC2PATH=/opt/StarCraftII PYTHONUNBUFFERED=1

# torch first: the wheel without CUDA is a tenth of the size; --build-arg TORCH_INDEX=https://pypi.org/simple for GPUs
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" torch

WORKDIR /opt/oamarl
COPY setup.py pyproject.toml README.md LICENSE ./
COPY src ./src
COPY docs ./docs
COPY zoo ./zoo
RUN pip install --no-cache-dir .

# a layer of its own: 4 GB that do not depend on this program's version much
ARG ACCEPT_LICENCE=no
ARG GAME_VERSION=4.10
RUN test "$ACCEPT_LICENCE" = yes || { echo "Add --build-arg ACCEPT_LICENCE=yes to accept Blizzard's licence."; exit 1; }; \
    oamarl install sc2 --accept-licence --game-version "$GAME_VERSION" && \
    oamarl install sc2v2 --only maps && oamarl install sc2v2 --only package

WORKDIR /runs
ENTRYPOINT ["oamarl"]
CMD ["--help"]
