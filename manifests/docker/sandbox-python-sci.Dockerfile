# docker build -f manifests/docker/sandbox-python-sci.Dockerfile -t sandbox-python-sci:0.5.0 manifests/docker
# Its base is the image that sandbox-python.Dockerfile makes; any with python3 and pip will do.
ARG BASE=sandbox-python:0.5.0

FROM ${BASE}
USER 0:0
RUN pip install --no-cache-dir numpy pandas matplotlib scipy scikit-learn openpyxl
USER 65532:65532
