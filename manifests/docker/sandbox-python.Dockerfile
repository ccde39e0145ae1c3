# docker build -f manifests/docker/sandbox-python.Dockerfile -t sandbox-python:0.5.0 manifests/docker
# The image of sandboxes: any with python3 will do, as the runner comes with the pod. This one has bash and node too.
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends bash nodejs \
 && rm -rf /var/lib/apt/lists/*
USER 65532:65532
WORKDIR /workspace
