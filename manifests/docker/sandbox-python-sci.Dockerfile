# docker build -f manifests/docker/sandbox-python-sci.Dockerfile --build-arg BASE=sandbox-python:0.5.0 .
ARG BASE=sandbox-python:0.5.0

FROM ${BASE}
USER 0:0
RUN pip install --no-cache-dir numpy pandas matplotlib scipy scikit-learn openpyxl
USER 65532:65532
